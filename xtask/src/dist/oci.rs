//! The container image: one layer with one file, as an OCI layout of all architectures and as archives for `docker load`.
//!
//! The Dockerfile makes the same image for those who build it themselves; a test below compares the two.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use super::archive::{Archive, gzip};
use super::{Build, VERSION, digest};
use crate::compiler::{self, NAME};
use crate::sh::{Sh, say};
use crate::workspace;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Of a layout, as its specification wants it.
const VERSION_OF_LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

const SECOND: u64 = 1_000_000_000;

/// One architecture's image: its blobs by digest, and its entry in an index.
struct Image {
    blobs: Vec<(String, Vec<u8>)>,
    config: String,
    layer: String,
    descriptor: Value,
}

/// `cargo xtask image`: builds the program and a local image around it. Needs Docker, but no registry and no `BuildKit`.
pub(crate) fn build_local() -> anyhow::Result<()> {
    // Docker is sent this directory, which holds the program alone.
    let context = workspace::root().join("target/image");
    fs::create_dir_all(&context).with_context(|| context.display().to_string())?;
    let program = compiler::build_here()?;
    fs::copy(&program, context.join(NAME)).with_context(|| format!("cannot copy {}", program.display()))?;
    let (revision, version) = (format!("REVISION={}", workspace::revision()), format!("VERSION={VERSION}"));
    let mut words = vec!["docker", "build", "--quiet", "--tag", NAME, "--target", "local", "--file", "Dockerfile"];
    words.extend(["--build-arg", &version, "--build-arg", &revision, "target/image"]);
    Sh { variables: &[], words: &words }.run()?;
    say(&format!("the image {NAME} is made; README.md says how to run it"));
    Ok(())
}

/// Writes the layout of all architectures: `index.json` names one index, whose entries have a platform each.
pub(super) fn write_layout(builds: &[Build], time: u64, directory: &Path) -> anyhow::Result<()> {
    let images = builds.iter().map(|build| image(build, time)).collect::<anyhow::Result<Vec<_>>>()?;
    let manifests: Vec<&Value> = images.iter().map(|image| &image.descriptor).collect();
    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": manifests,
        "annotations": annotations(time),
    });
    let index = index.to_string().into_bytes();
    let entry = with(descriptor(INDEX, &index), "annotations", json!({ "org.opencontainers.image.ref.name": VERSION }));
    let top = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| blobs.display().to_string())?;
    fs::write(directory.join("oci-layout"), VERSION_OF_LAYOUT)?;
    fs::write(directory.join("index.json"), top.to_string())?;
    fs::write(blobs.join(digest(&index)), &index)?;
    for (name, bytes) in images.iter().flat_map(|image| &image.blobs) {
        fs::write(blobs.join(name), bytes).with_context(|| name.clone())?;
    }
    say(&format!("image index sha256:{}", digest(&index)));
    Ok(())
}

/// Writes one architecture's image as an archive: a layout, and the file that older engines' `docker load` reads.
pub(super) fn write_loadable(build: &Build, time: u64, directory: &Path) -> anyhow::Result<()> {
    let image = image(build, time)?;
    let names = json!({
        "io.containerd.image.name": format!("docker.io/library/{NAME}:{VERSION}"),
        "org.opencontainers.image.ref.name": VERSION,
    });
    let entry = with(image.descriptor.clone(), "annotations", names);
    let top = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
    let blob = |name: &str| format!("blobs/sha256/{name}");
    let docker = json!([{
        "Config": blob(&image.config),
        "RepoTags": [format!("{NAME}:{VERSION}")],
        "Layers": [blob(&image.layer)],
    }]);
    let mut archive = Archive::new(time)?;
    archive.add_bytes(VERSION_OF_LAYOUT.as_bytes(), "oci-layout", 0o644)?;
    archive.add_bytes(top.to_string().as_bytes(), "index.json", 0o644)?;
    archive.add_bytes(docker.to_string().as_bytes(), "manifest.json", 0o644)?;
    for (name, bytes) in &image.blobs {
        archive.add_bytes(bytes, &blob(name), 0o644)?;
    }
    let path = directory.join(format!("{NAME}-{VERSION}.linux-{}.image.tar", build.architecture.go));
    fs::write(&path, archive.finish()?).with_context(|| path.display().to_string())
}

fn image(build: &Build, time: u64) -> anyhow::Result<Image> {
    let mut archive = Archive::new(time)?;
    archive.add(&build.program, NAME, 0o755)?;
    let tar = archive.finish()?;
    let layer = gzip(&tar)?;
    let config = config(build, time, &digest(&tar)).to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config),
        "layers": [descriptor(LAYER, &layer)],
        "annotations": annotations(time),
    });
    let manifest = manifest.to_string().into_bytes();
    say(&format!("image for {}: {} bytes compressed", build.architecture.go, layer.len()));
    let descriptor = with(descriptor(MANIFEST, &manifest), "platform", platform(build));
    let names = [digest(&manifest), digest(&config), digest(&layer)];
    let [_, config_name, layer_name] = names.clone();
    let blobs = names.into_iter().zip([manifest, config, layer]).collect();
    Ok(Image { blobs, config: config_name, layer: layer_name, descriptor })
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": format!("sha256:{}", digest(bytes)), "size": bytes.len() })
}

fn platform(build: &Build) -> Value {
    let platform = json!({ "architecture": build.architecture.go, "os": "linux" });
    match build.architecture.variant {
        Some(variant) => with(platform, "variant", json!(variant)),
        None => platform,
    }
}

fn config(build: &Build, time: u64, diff: &str) -> Value {
    let created = created(time);
    let run = json!({
        "Entrypoint": [format!("/{NAME}")],
        "ExposedPorts": { "8081/tcp": {} },
        "Healthcheck": {
            "Test": ["CMD", format!("/{NAME}"), "healthcheck"],
            "Interval": 30 * SECOND,
            "Timeout": 5 * SECOND,
            "StartPeriod": 10 * SECOND,
        },
        "Labels": annotations(time),
    });
    let config = with(platform(build), "config", run);
    let config = with(config, "rootfs", json!({ "type": "layers", "diff_ids": [format!("sha256:{diff}")] }));
    let config = with(config, "history", json!([{ "created": created, "created_by": "cargo xtask dist" }]));
    with(config, "created", json!(created))
}

/// An object with one more field.
fn with(mut object: Value, name: &str, value: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
    object
}

/// The labels of the image, which its manifest and index have as annotations.
fn annotations(time: u64) -> Value {
    let repository = env!("CARGO_PKG_REPOSITORY");
    json!({
        "org.opencontainers.image.created": created(time),
        "org.opencontainers.image.description": "Prometheus metrics of every container on a Linux host, read straight from the kernel",
        "org.opencontainers.image.documentation": format!("{repository}#readme"),
        "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
        "org.opencontainers.image.revision": workspace::revision(),
        "org.opencontainers.image.source": repository,
        "org.opencontainers.image.title": NAME,
        "org.opencontainers.image.version": VERSION,
    })
}

fn created(time: u64) -> String {
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + std::time::Duration::from_secs(time)).to_string()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::compiler::ARCHITECTURES;

    fn builds(directory: &Path) -> Vec<Build> {
        let program = directory.join("program");
        fs::write(&program, "the program").unwrap();
        let build = |architecture| Build { architecture, program: program.clone(), bill: PathBuf::new() };
        ARCHITECTURES.iter().map(build).collect()
    }

    /// The blob that a descriptor names, with the size that it says.
    fn blob(directory: &Path, descriptor: &Value) -> Vec<u8> {
        let name = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
        let bytes = fs::read(directory.join("blobs/sha256").join(&name)).unwrap();
        assert_eq!(digest(&bytes), name);
        assert_eq!(descriptor["size"], bytes.len());
        bytes
    }

    fn read(directory: &Path, descriptor: &Value) -> Value {
        serde_json::from_slice(&blob(directory, descriptor)).unwrap()
    }

    #[test]
    fn every_descriptor_of_a_layout_leads_to_its_blob_and_every_platform_to_its_image() {
        let directory = tempfile::tempdir().unwrap();
        let builds = builds(directory.path());
        let layout = directory.path().join("oci");
        write_layout(&builds, 1_700_000_000, &layout).unwrap();
        let top: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
        let index = read(&layout, &top["manifests"][0]);
        let entries = index["manifests"].as_array().unwrap();
        assert_eq!(entries.len(), builds.len());
        for (entry, build) in entries.iter().zip(&builds) {
            assert_eq!(entry["platform"]["architecture"], build.architecture.go);
            let manifest = read(&layout, entry);
            let config = read(&layout, &manifest["config"]);
            assert_eq!(config["architecture"], build.architecture.go);
            assert_eq!(config["created"], "2023-11-14T22:13:20Z");
            let mut tar = Vec::new();
            let layer = blob(&layout, &manifest["layers"][0]);
            std::io::copy(&mut flate2::read::GzDecoder::new(layer.as_slice()), &mut tar).unwrap();
            assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", digest(&tar)));
        }
    }

    #[test]
    fn the_dockerfile_makes_the_same_image() {
        let dockerfile = fs::read_to_string(workspace::root().join("Dockerfile")).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let config = config(&builds(directory.path())[0], 0, "0");
        // BuildKit sets the time by itself.
        for (name, value) in
            config["config"]["Labels"].as_object().unwrap().iter().filter(|(name, _)| !name.ends_with("created"))
        {
            let value = match name.rsplit('.').next().unwrap() {
                "version" => "${VERSION}",
                "revision" => "${REVISION}",
                _ => value.as_str().unwrap(),
            };
            assert!(dockerfile.contains(&format!("{name}=\"{value}\"")), "{name}={value}");
        }
        for line in [
            "EXPOSE 8081",
            "HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD [\"/docker-stats-exporter\", \"healthcheck\"]",
            "ENTRYPOINT [\"/docker-stats-exporter\"]",
        ] {
            assert!(dockerfile.lines().any(|found| found == line), "{line}");
        }
    }
}
