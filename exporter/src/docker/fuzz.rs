//! Fuzz targets for the answers of an engine, or of a proxy before it.

use super::container::{Inspected, ListEntry};
use super::events::Event;
use super::json::{self, Objects, time_ns};
use crate::name::{ContainerInfo, LabelPolicy, MAX_LABEL_NAME, MAX_LABEL_VALUE, MAX_LABELS, Names, NamingPolicy};

/// Maximum size of an object, in bytes.
const MAX_OBJECT: usize = 1000;

/// Checks that a stream gives the same objects however it is cut into chunks.
pub(crate) fn stream(bytes: &[u8]) {
    let Some((size, stream)) = bytes.split_first() else { return };
    let objects = |size: usize| {
        let (mut splitter, mut objects) = (Objects::new(MAX_OBJECT), Vec::new());
        stream.chunks(size.max(1)).for_each(|chunk| splitter.feed(chunk, |object| objects.push(object.to_vec())));
        (objects, splitter.too_large(), splitter.is_whole_array())
    };
    let (whole, in_chunks) = (objects(stream.len()), objects(usize::from(*size)));
    assert_eq!(whole, in_chunks);
    assert!(whole.0.iter().all(|object| object.len() <= MAX_OBJECT));
}

/// Checks that what is stored of a container is bounded, whichever answer it comes from. Returns what was stored.
pub(crate) fn answers(bytes: &[u8]) -> Vec<ContainerInfo> {
    let Some(value) = json::parse(bytes) else { return Vec::new() };
    let (names, labels) = (Names::default(), LabelPolicy::new(&["*"]).unwrap_or_default());
    let naming = NamingPolicy { labels, ..NamingPolicy::default() };
    _ = time_ns(json::text(&value, "/Created"));
    let listed = ListEntry::parse(&value, &naming, &names).map(ListEntry::into_info);
    let inspected = Inspected::parse(&value, &naming, &names).map(|inspected| inspected.info);
    if let Some(event) = Event::parse(&value, &naming)
        && let Some(mut info) = inspected.clone()
    {
        event.apply(&mut info);
    }
    let stored: Vec<_> = listed.into_iter().chain(inspected).collect();
    for info in &stored {
        let within = |(name, value): &(String, String)| name.len() <= MAX_LABEL_NAME && value.len() <= MAX_LABEL_VALUE;
        assert!(info.labels.len() <= MAX_LABELS && info.labels.iter().all(within), "{:?}", info.labels);
        let texts = [&info.name, &info.image, &info.image_id, &info.cgroup_parent, &info.restart_policy];
        assert!(texts.iter().all(|text| text.len() <= json::MAX_SHORT), "{texts:?}");
    }
    stored
}
