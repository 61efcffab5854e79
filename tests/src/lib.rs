//! The harness of the end-to-end tests: everything around the exporter that a test needs to be real.
//!
//! A test here runs the built binary, talks to it over HTTP and checks only what a user can see. Nothing of the
//! exporter's inside is mocked; where a Docker engine is needed one is found or started.
//!
//! | module | what it gives |
//! |---|---|
//! | [`engine`] | a Docker engine: the machine's, a shared private one, or one of the test's own that may be stopped |
//! | [`container`] | a container that is removed when the test ends |
//! | [`bare`] | container cgroups without an engine, for tests that want many |
//! | [`kernel`] | the kernel's own figures of a container, to compare with |
//! | [`exporter`] | the built binary, started on a free port and stopped with SIGTERM |
//! | [`fake_engine`] | canned answers on a Unix socket, for captured hosts and hostile data |
//! | [`fixture`] | captured hosts |
//! | [`http`] | an HTTP client that can misbehave |
//! | [`exposition`] | a strict parser of the exposition formats and questions to its result |
//! | [`judges`] | promtool and Python's `prometheus_client`, which see every exposition, and `fastjsonschema` |
//! | [`podman`] | Podman with storage of its own, and its API |
//! | [`proxy`] | a proxy before a real engine that cuts its event streams |
//! | [`random`] | random numbers of a fixed sequence |
//! | [`served`] | an exporter of canned answers, for what a real one never says |
//! | [`site`] | hosts of a test's own, each with an engine, joined by a network |
//! | [`terminal`] | a pseudo-terminal with a program on it, and the screen that it draws |
//! | [`wait`] | waiting for a condition, with a message that says what was seen last |

pub mod bare;
pub mod container;
pub mod engine;
pub mod exporter;
pub mod exposition;
pub mod fake_engine;
pub mod fixture;
pub mod http;
pub mod judges;
pub mod kernel;
pub mod podman;
pub mod proxy;
pub mod random;
pub mod served;
pub mod site;
pub mod terminal;
pub mod wait;

pub use container::Container;
pub use engine::Engine;
pub use exporter::Exporter;
pub use exposition::Exposition;
pub use served::Served;
pub use terminal::Terminal;
