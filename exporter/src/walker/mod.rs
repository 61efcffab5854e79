//! The disk walker: a process of its own that sums up what directories hold on disk.
//!
//! The layer of a container belongs to whoever runs in it, so listing it takes `CAP_DAC_READ_SEARCH`, which the sandbox takes from the
//! exporter. The same program is therefore run once more before the sandbox is entered (`disk-walker`, which users do not call), keeps
//! that capability alone, and gives up all else: Landlock lets it list directories below the engines' data roots, and neither read a file
//! nor reach the network; seccomp leaves some thirty calls. Paths go in and numbers come out, over a socket pair.
//!
//! | file | what it does |
//! |---|---|
//! | `handle` | the exporter's end: starts the process, sends, receives |
//! | `protocol` | the messages, whose every byte is checked |
//! | `guard` | the process: finds the data roots, confines itself, forks the worker anew when that one ends |
//! | `roots` | the engines' data roots, held open |
//! | `worker` | takes requests and walks slice by slice |
//! | `queue` | which walk is next: a large one does not hold up small ones |
//! | `pace` | how much CPU time there is for it |
//! | `walk` | one tree |
//! | `system` | two system calls without a safe form |
//!
//! **Why two processes.** The exporter cannot start a program once it is in the sandbox. So the process that it has started is a guard
//! that does nothing but fork the worker anew, with back-off, inside the confinement that both share. Where the guard is killed, the
//! worker takes its part over. A program run anew, rather than a fork of the exporter, has none of the exporter's memory, keys and
//! descriptors, and needs no promise about its threads. Both end when the exporter's end of the socket pair is closed, which the kernel
//! does however the exporter ends.

mod guard;
mod handle;
mod pace;
mod protocol;
mod queue;
mod roots;
mod system;
mod walk;
mod worker;

pub use guard::run;
pub use handle::Walker;
pub use protocol::{Event, Failure, Request, are_valid, encode_requests};
pub use roots::visible_roots;

/// The word on the command line that makes a process a walker.
pub const SUBCOMMAND: &str = "disk-walker";
