//! More containers than descriptors: files are then opened for each scrape, and nothing is lost. Hardly any left: whoever
//! asks is answered.

use exporter_tests::Exporter;
use exporter_tests::bare::BareContainers;

#[test]
fn few_descriptors_lose_no_values() {
    const COUNT: usize = 150;
    let containers = BareContainers::make(COUNT).unwrap();
    for limit in [128, 1200] {
        let exporter = Exporter::builder().flag("--metrics.schema=both").open_files(limit).start().unwrap();
        for _ in 0..2 {
            let exposition = exporter.scrape().unwrap();
            for family in ["container_cpu_usage_seconds_total", "container_memory_usage_bytes", "container_threads"] {
                let has = |id: &&String| {
                    exposition.samples().any(|sample| sample.name == family && sample.label("id").contains(id.as_str()))
                };
                let served = containers.ids.iter().filter(has).count();
                assert_eq!(served, COUNT, "{family} with at most {limit} open files");
            }
            for label in [("reason", "io"), ("file", "snapshot")] {
                let errors = exposition.select("docker_stats_exporter_read_errors_total", &[label]);
                assert!(errors.is_empty(), "{errors:?}");
            }
        }
        let said = exporter.stop().unwrap();
        let reported = said.lines().filter(|line| line.contains("descriptor limit")).count();
        assert_eq!(reported, 1, "to be said once: {said}");
    }
}

#[test]
fn the_last_descriptor_is_a_client_s() {
    let exporter = Exporter::builder().start().unwrap();
    exporter.scrape().unwrap();
    for _ in 0..3 {
        let exposition = exporter.with_descriptors_left(1, || exporter.scrape()).unwrap();
        assert!(exposition.has("docker_stats_exporter_build_info", &[]));
    }
    assert!(exporter.scrape().unwrap().has("container_cpu_usage_seconds_total", &[("id", "/")]));
}
