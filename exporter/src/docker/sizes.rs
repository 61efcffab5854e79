//! Sizes of the containers' writable layers. The engine walks every layer's files for them, so it is asked seldom, in a task of its
//! own that nothing waits for; and only where the `disk` collector is on.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use super::json::{integer, text};
use super::{Engine, Error};
use crate::discover::ContainerId;
use crate::name::ContainerStore;

/// Time between two questions.
pub const SIZES_INTERVAL: Duration = Duration::from_mins(5);
/// Time between two looks whether the engine is there.
const PATIENCE: Duration = Duration::from_millis(200);

/// Puts the sizes into `store`, at once and then every `interval`, until `stop` is ready. What was known stays while the engine
/// does not answer.
pub async fn measure(engine: Engine, store: Arc<ContainerStore>, interval: Duration, stop: impl Future<Output = ()>) {
    let rounds = async {
        let mut logged = false;
        loop {
            match ask(&engine).await {
                None => sleep(PATIENCE).await,
                Some(Ok(sizes)) => {
                    tracing::debug!(containers = sizes.len(), "sizes of writable layers");
                    store.set_sizes(sizes);
                    sleep(interval).await;
                }
                Some(Err(error)) => {
                    if !std::mem::replace(&mut logged, true) {
                        tracing::warn!(%error, ?interval, "no sizes of writable layers: asking again");
                    }
                    sleep(interval).await;
                }
            }
        }
    };
    tokio::select! {
        () = stop => {}
        () = rounds => {}
    }
}

/// None while the engine is down.
async fn ask(engine: &Engine) -> Option<Result<HashMap<ContainerId, u64>, Error>> {
    let session = engine.session()?;
    let mut sizes = HashMap::new();
    let listed = session.sizes(|value| sizes.extend(size(&value))).await;
    Some(listed.map(|_too_large| sizes))
}

fn size(value: &Value) -> Option<(ContainerId, u64)> {
    let id = ContainerId::parse(text(value, "/Id").as_bytes())?;
    // An engine leaves 0 out.
    let bytes = integer(value, "/SizeRw").unwrap_or(0).try_into().ok()?;
    Some((id, bytes))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use serde_json::json;

    use super::{ContainerId, measure, size};
    use crate::docker::fake::{Fake, container};
    use crate::metrics::SelfMetrics;
    use crate::name::ContainerStore;

    #[test]
    fn an_entry_has_its_size_and_none_means_an_empty_layer() {
        let id = "a".repeat(64);
        let read = |value| size(&value).map(|(_, bytes)| bytes);
        assert_eq!(read(json!({"Id": id, "SizeRw": 4096, "SizeRootFs": 9000})), Some(4096));
        assert_eq!(read(json!({"Id": id, "SizeRootFs": 9000})), Some(0));
        assert_eq!(read(json!({"Id": id, "SizeRw": -1})), None);
        assert_eq!(read(json!({"Id": "short", "SizeRw": 1})), None);
    }

    #[tokio::test]
    async fn an_engine_that_comes_late_is_asked_once_per_interval() {
        let fake = Fake::start([container('a', "web", "running")]);
        let engine = fake.engine(&SelfMetrics::new().unwrap());
        let store = Arc::new(ContainerStore::new(Duration::ZERO));
        let id = ContainerId::parse("a".repeat(64).as_bytes()).unwrap();
        let (reader, later) = (Arc::clone(&store), engine.clone());
        let known = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            later.connect().await.unwrap();
            for _ in 0..1000 {
                if reader.names().sizes.contains_key(&id) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(reader.names().sizes.get(&id), Some(&0), "known within ten seconds");
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        Box::pin(measure(engine, store, Duration::from_mins(5), known)).await;
        assert_eq!(fake.requests("size=1"), 1);
    }
}
