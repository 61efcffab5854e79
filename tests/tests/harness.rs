//! The harness against the real engine: what the other tests take for granted.

use std::time::Duration;

use exporter_tests::{Container, Engine, wait};

#[test]
fn a_container_runs_and_the_kernel_tells_of_it() {
    let engine = Engine::shared().unwrap();
    let container = Container::sleeping(engine, "harness", &["--memory=64m"]).unwrap();
    let kernel = container.kernel().unwrap();
    assert_eq!(container.id.len(), 64);
    assert!(kernel.memory_bytes().unwrap() > 0);
    assert!(kernel.cpu_seconds().unwrap() > 0.0);
    assert_eq!(kernel.oom_kills().unwrap(), 0);
    assert_eq!(container.exec(&["echo", "hello"]).unwrap(), "hello");
    let id = container.id.clone();
    drop(container);
    assert!(engine.docker(&["inspect", &id]).is_err());
}

#[test]
fn an_engine_of_one_s_own_can_be_stopped_frozen_and_started() {
    let mut engine = Engine::private().unwrap();
    Container::sleeping(&engine, "first", &[]).unwrap();
    engine.stop().unwrap();
    assert!(engine.docker(&["version"]).is_err());
    engine.start().unwrap();
    engine.freeze().unwrap();
    let mut asked = engine.command().arg("version").stdout(std::process::Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert!(asked.try_wait().unwrap().is_none(), "a frozen engine answered");
    engine.thaw().unwrap();
    assert!(asked.wait().unwrap().success());
    let container = Container::sleeping(&engine, "second", &["--network=bridge"]).unwrap();
    let address = container.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}").unwrap();
    assert!(!address.is_empty());
    wait::eventually(Duration::from_secs(5), "an answer over the bridge", || container.exec(&["true"]).map(drop))
        .unwrap();
}
