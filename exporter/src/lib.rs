//! Prometheus metrics of every container on a Linux host, read straight from the kernel.
//!
//! The modules in the order of the data flow, then the commands and their tools:
//!
//! | module | what it does |
//! |---|---|
//! | [`config`] | parses flags and environment into one validated value, and reports all errors at once |
//! | [`metrics`] | the table of metrics: name, help, type, unit and source of each |
//! | [`discover`] | finds the container cgroups of this host and follows their changes |
//! | [`ebpf`] | loads eBPF programs, which count what no kernel file shows |
//! | [`read`] | reads the kernel files of every container into samples, in one pass |
//! | [`name`] | maps a container id to name, image, labels and state; never blocks a scrape |
//! | [`docker`] | fills [`name`] from a Docker engine, and reads its stats API if no cgroup tree can be read |
//! | [`render`] | renders samples as exposition text, in the order of the table |
//! | [`scrape`] | runs all of the above on one thread, and answers one batch of scrapes after the other |
//! | [`web_config`] | reads `--web.config.file`: TLS, client certificates, passwords, headers |
//! | [`serve`] | serves HTTP |
//! | [`sandbox`] | drops what serving does not need: capabilities, files, ports, system calls |
//! | [`walker`] | measures the disk usage of directories, in a separate process |
//! | [`notify`] | tells systemd that scrapes are served |
//! | [`app`] | wires the modules together and runs until a signal |
//! | [`doctor`] | reports what works on this host, what does not, and what helps |
//! | [`probe`] | makes one small HTTP request, for `healthcheck` and [`doctor`] |
//! | [`top`] | shows the containers of a running exporter in a terminal |
//! | [`log`] | sets up the log on stderr |
//! | [`memory`] | returns memory that only the start needed to the system |
//! | `fuzz` | lists the fuzz targets, for tests only |

pub mod app;
pub mod config;
pub mod discover;
pub mod docker;
pub mod doctor;
pub mod ebpf;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod log;
pub mod memory;
pub mod metrics;
pub mod name;
pub mod notify;
pub mod probe;
pub mod read;
pub mod render;
pub mod sandbox;
pub mod scrape;
pub mod serve;
pub mod top;
pub mod walker;
pub mod web_config;
