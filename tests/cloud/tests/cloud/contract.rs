//! The cloud store keeps the contract.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate_cloud::Cloud;
use tidegate_cloud_tests::Servers;
use tidegate_runtime::store::Store;
use tidegate_runtime::store::conformance::{self, Load};

#[tokio::test(flavor = "multi_thread")]
async fn the_cloud_store_keeps_the_contract() {
    let servers = Servers::start().await.unwrap();
    let made = AtomicUsize::new(0);
    let make = async || {
        let name = format!("suite-{}", made.fetch_add(1, Ordering::Relaxed));
        let store = Cloud::open(servers.settings(&name)).await.unwrap();
        (
            Arc::new(store) as Arc<dyn Store>,
            Box::new(()) as conformance::Guard,
        )
    };
    conformance::run_all(make, Load::REMOTE).await;
}
