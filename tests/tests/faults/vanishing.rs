//! Containers that come and go under the scrapes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use exporter_tests::exposition::Format;
use exporter_tests::wait::patience;
use exporter_tests::{Container, Engine, Exporter};

/// Containers are started and killed until so many have died and so many scrapes have been taken.
const DEATHS: usize = 30;
const SCRAPES: usize = 40;
/// Two of so many scrapes are shown to the judges, who are slower than the storm; all of them are parsed.
const JUDGED: usize = 8;
/// A guard against hanging, not a measure: a busy machine needs minutes for so many containers.
const STORM: Duration = Duration::from_mins(10);

#[test]
fn containers_that_die_during_scrapes_spoil_none() {
    let engine = Engine::shared().unwrap();
    let exporter = Exporter::with(engine).unwrap();
    let over = AtomicBool::new(false);
    let died = AtomicUsize::new(0);
    // An emulated machine takes a quarter of a minute for each, and a third of them says as much.
    let deaths = DEATHS / usize::try_from(patience().clamp(1, 3)).unwrap();
    let ids = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let container = Container::sleeping(engine, "storm", &[]).unwrap();
                    ids.lock().unwrap().push(container.id.clone());
                    container.docker("kill", &[]).unwrap();
                    died.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let end = Instant::now() + STORM * patience();
        let mut scrapes = 0;
        while Instant::now() < end && (scrapes < SCRAPES || died.load(Ordering::Relaxed) < deaths) {
            // Status 200, a faultless exposition, and both formats in turn.
            let format = if scrapes % 2 == 0 { Format::Text } else { Format::OpenMetrics };
            if scrapes % JUDGED < 2 {
                exporter.scrape_path("/metrics", format).unwrap();
            } else {
                exporter.scrape_unjudged("/metrics", format).unwrap();
            }
            scrapes += 1;
        }
        over.store(true, Ordering::Relaxed);
        assert!(scrapes >= SCRAPES, "only {scrapes} scrapes in {STORM:?}");
    });
    assert!(died.load(Ordering::Relaxed) >= deaths, "only {} containers", died.load(Ordering::Relaxed));
    let exposition = exporter.scrape().unwrap();
    for id in ids.into_inner().unwrap() {
        let left: Vec<_> = exposition.container(&id).filter(|sample| sample.name.contains("_cpu_usage")).collect();
        assert!(left.is_empty(), "series of a dead container: {left:?}");
    }
    assert!(exporter.get("/metrics", &[]).unwrap().status == 200);
    exporter.stop().unwrap();
}
