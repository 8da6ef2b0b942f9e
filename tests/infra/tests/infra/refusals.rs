//! Values that make no sense: Helm says what was found and what was allowed, and renders nothing.

use anyhow::Result;
use tidegate_infra_tests::Chart;

use crate::TRIAL;

fn refused(values: &str) -> String {
    match Chart::find().render(values) {
        Ok(_) => panic!("this is taken: {values}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn values_that_are_not_known_or_not_allowed_are_refused_with_their_path() -> Result<()> {
    for (values, told) in [
        ("hosts: {}", "hosts"),
        ("host: { replicas: 0 }", "/host/replicas"),
        ("host: { scratch: plenty }", "/host/scratch"),
        ("store: { kind: gcp }", "/store/kind"),
        ("image: { digest: latest }", "/image/digest"),
        ("worker: { pools: { GPU: {} } }", "invalid propertyName 'GPU'"),
        (
            "worker: { pools: { gpu: { gpus: 0 } } }",
            "/worker/pools/gpu/gpus",
        ),
        (
            "worker: { pools: { gpu: { part: training } } }",
            "/worker/pools/gpu/part",
        ),
        (
            "worker: { tls: { serverName: 'https://worker' } }",
            "/worker/tls/serverName",
        ),
        (
            "worker: { pools: { gpu: { keda: { minReplicas: 0 } } } }",
            "at '/worker/pools/gpu/keda': missing property 'maxReplicas'",
        ),
        (
            "worker: { pools: { gpu: { keda: { maxReplicas: 0 } } } }",
            "/worker/pools/gpu/keda/maxReplicas",
        ),
        ("ingress: { paths: [/] }", "/ingress/paths/0"),
        ("ingress: { paths: [/api/v1] }", "/ingress/paths/0"),
        ("ingress: { paths: [/metrics] }", "/ingress/paths/0"),
    ] {
        let message = refused(&format!("{TRIAL}\n{values}"));
        assert!(message.contains(told), "{values}: {message}");
    }
    Ok(())
}

#[test]
fn values_that_contradict_each_other_are_refused_with_the_way_out() -> Result<()> {
    let aws = "secretName: keys\nstore: { kind: aws, aws: { bucket: acme } }";
    let tls = &format!("{aws}\ntls: {{ secretName: tls }}");
    for (values, told) in [
        ("", "`secretName` is missing".to_owned()),
        (
            "secretName: keys\nstore: { kind: aws }",
            "`store.aws.bucket` is missing".to_owned(),
        ),
        (
            "secretName: keys\nautoscaling: { hpa: { enabled: true } }",
            "an embedded store has one host; `store.kind` has to be `aws`".to_owned(),
        ),
        (
            &format!("{aws}\nautoscaling: {{ hpa: {{ enabled: true }}, keda: {{ enabled: true }} }}"),
            "`autoscaling.hpa` and `autoscaling.keda` are both enabled".to_owned(),
        ),
        (
            &format!("{aws}\nworker: {{ pools: {{ gpu: {{ gpus: 1 }} }} }}"),
            "`tls.secretName` or `tls.certManager.issuer` has to name a certificate".to_owned(),
        ),
        (
            &format!("{aws}\nworker: {{ tls: {{ hostSecretName: hosts }} }}"),
            "`worker.tls` has `hostSecretName`, `secretName` and `serverName`, all three or none".to_owned(),
        ),
        (
            &format!(
                "{aws}\nworker: {{ tls: {{ hostSecretName: hosts, secretName: workers, serverName: worker }} }}"
            ),
            "`tls.secretName` or `tls.certManager.issuer` has to name a certificate".to_owned(),
        ),
        (
            &format!("{tls}\nworker: {{ pools: {{ near: {{ part: inference }} }} }}"),
            "`worker.pools.near` answers inference or has a certificate of its own; `worker.tls` has to"
                .to_owned(),
        ),
        (
            &format!("{tls}\nworker: {{ pools: {{ gpu: {{ replicas: 1, keda: {{ maxReplicas: 2 }} }} }} }}"),
            "`worker.pools.gpu` has `replicas` and `keda`".to_owned(),
        ),
        (
            &format!(
                "{tls}\nworker: {{ pools: {{ gpu: {{ keda: {{ minReplicas: 3, maxReplicas: 2 }} }} }} }}"
            ),
            "`worker.pools.gpu.keda` has a `minReplicas` above its `maxReplicas`".to_owned(),
        ),
        (
            &format!("{aws}\ningress: {{ enabled: true }}"),
            "`ingress.paths` is empty".to_owned(),
        ),
    ] {
        let message = refused(values);
        assert!(message.contains(&told), "{values}: {message}");
    }
    Ok(())
}
