//! Prometheus metrics of every container on a Linux host, read straight from the kernel.
//!
//! The modules of this crate stand in the order in which the data flows:
//!
//! | module | what it does |
//! |---|---|
//! | [`config`] | flags and environment, validated into one typed value; every error reported at once |
//! | [`metrics`] | the table: each metric once, with its name, help, type, unit and source; knows nothing else |
//! | [`discover`] | finds the container cgroups of this host and follows their coming and going |
//! | [`ebpf`] | programs in the kernel that count what no file tells |
//! | [`read`] | one pass over the kernel files of every container into samples |
//! | [`name`] | container id → name, image, labels, state; never blocks a scrape |
//! | [`docker`] | fills [`name`] from a Docker engine, and reads its stats API where no cgroup tree can be read |
//! | [`render`] | samples in table order → exposition text |
//! | [`scrape`] | owns all of the above on one thread and answers one scrape after the other |
//! | [`web_config`] | `--web.config.file`: TLS, client certificates, passwords, headers |
//! | [`serve`] | HTTP |
//! | [`sandbox`] | gives up what serving does not need: capabilities, files, ports, system calls |
//! | [`notify`] | tells systemd that scrapes are served |
//! | [`app`] | puts them together and runs until a signal ends it |
//! | [`doctor`] | says what works on this host, what does not, and what helps |
//! | [`probe`] | one small HTTP request, for `healthcheck` and [`doctor`] |
//! | [`walker`] | a process of its own that sums up what directories hold on disk |
//! | [`top`] | shows the containers of a running exporter in a terminal |
//! | [`log`] | the log on stderr |
//! | `fuzz` | tests only: the fuzz targets |

pub mod app;
pub mod config;
pub mod discover;
pub mod docker;
pub mod doctor;
pub mod ebpf;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod log;
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
