//! Workers: beside a host and in pools, what each is told, and the certificates that they and the hosts show each other.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, Parser as _};
use serde_json::{Value, json};
use tidegate_infra_tests::{Chart, Document, Pods, Rendered, list};
use tidegate_worker::settings::{Part, Settings};

use crate::workloads::config_in;
use crate::{TRIAL, every_way};

/// The address that a pod has here.
const POD: &str = "10.0.0.7";
/// How a query asks for the hosts of this release alone.
const HOSTS: &str = ",namespace=\"ml\",pod=~\"tidegate-host-.*\"";

/// The worker among the containers of pods.
fn worker_of<'p>(pods: &'p Pods<'_>) -> Result<&'p Value> {
    let worker = pods.containers().find(|container| container["name"] == "worker");
    worker.context("no worker")
}

/// What a pool does; nothing of a host.
fn part_of(workload: &Document) -> Option<&str> {
    workload.spec()["template"]["metadata"]["labels"]["tidegate/part"].as_str()
}

#[test]
fn every_worker_takes_what_it_is_told() -> Result<()> {
    for rendered in every_way()? {
        let trains = rendered
            .all("Deployment")
            .any(|workload| part_of(workload) == Some("jobs"));
        for workload in rendered.all("Deployment") {
            let pods = workload.pods()?;
            let worker = worker_of(&pods)?;
            let settings = settings_of(worker)?;
            assert!(
                settings.standalone,
                "it would end with a standard input that there is not"
            );
            let health = settings.health.context("no health")?;
            assert!(
                list(&worker["ports"]).any(|port| port["containerPort"] == health.port()),
                "{worker}"
            );
            let part = match part_of(workload) {
                Some("inference") => Some(Part::Inference),
                Some(_) => Some(Part::Jobs),
                None => trains.then_some(Part::Inference),
            };
            assert_eq!(settings.only, part, "{}", pods.of);
            if part_of(workload).is_some() || settings.tls().is_some() {
                the_host_is_dialled(&rendered, &settings)?;
            }
        }
    }
    Ok(())
}

/// The settings that a worker makes of a container's arguments and environment.
pub(crate) fn settings_of(container: &Value) -> Result<Settings> {
    let command = Settings::command();
    let mut arguments = vec!["tidegate-worker".to_owned()];
    arguments.extend(
        list(&container["args"])
            .filter_map(Value::as_str)
            .map(str::to_owned),
    );
    let mut address = "$(POD_IP)";
    for variable in list(&container["env"]) {
        let name = variable["name"].as_str().context("no name")?;
        // It is for the variables after it.
        if name == "POD_IP" {
            assert_eq!(variable["valueFrom"]["fieldRef"]["fieldPath"], "status.podIP");
            address = POD;
            continue;
        }
        let known = command
            .get_arguments()
            .find(|known| known.get_env().is_some_and(|env| env == name));
        let known = known.with_context(|| format!("a worker does not know `{name}`"))?;
        let value = variable["value"].as_str().unwrap_or("from elsewhere");
        let value = value.replace("$(POD_IP)", address);
        arguments.push(format!("--{}={value}", known.get_long().context("no name")?));
    }
    Ok(Settings::try_parse_from(arguments)?)
}

/// By a name that its certificate has, through a service that leads to the same host again.
fn the_host_is_dialled(rendered: &Rendered, settings: &Settings) -> Result<()> {
    let address = settings.host.strip_prefix("https://").context("no TLS")?;
    let (name, port) = address.split_once(':').context("no port")?;
    let certificate = rendered.all("Certificate").next().context("no certificate")?;
    assert!(
        list(&certificate.spec()["dnsNames"]).any(|known| known == name),
        "{name}"
    );
    let service = rendered
        .all("Service")
        .find(|found| format!("{}.ml.svc", found.name()) == name);
    let service = service.with_context(|| format!("no service `{name}`"))?;
    assert_eq!(service.spec()["sessionAffinity"], "ClientIP");
    assert!(
        list(&service.spec()["ports"]).any(|of| of["port"].as_i64().is_some_and(|of| port.parse() == Ok(of))),
        "{port}"
    );
    assert!(settings.host_ca.is_some());
    Ok(())
}

#[test]
fn a_worker_that_others_reach_has_certificates_and_its_pods_own_address() -> Result<()> {
    let mut reached = Vec::new();
    for rendered in every_way()? {
        for workload in rendered.all("Deployment") {
            let pods = workload.pods()?;
            let worker = worker_of(&pods)?;
            let settings = settings_of(worker)?;
            if settings.listen.ip().is_loopback() {
                continue;
            }
            assert_eq!(settings.listen.ip().to_string(), POD, "{}", pods.of);
            assert!(settings.tls().is_some(), "{}", pods.of);
            let port = list(&worker["ports"]).find(|port| port["name"] == "inference");
            assert_eq!(port.context("no port")?["containerPort"], settings.listen.port());
            reached.push(pods.of.to_owned());
        }
    }
    assert_eq!(reached, ["tidegate-worker-answers"]);
    Ok(())
}

#[test]
fn a_pool_listens_on_ipv6_where_hosts_do() -> Result<()> {
    let values = "
secretName: keys
tls: { secretName: tls }
host: { bind: '[::]' }
worker:
  tls: { hostSecretName: hosts, secretName: workers, serverName: worker }
  pools: { answers: { part: inference } }
";
    let rendered = Chart::find().render(values)?;
    let pool = rendered
        .all("Deployment")
        .find(|found| part_of(found) == Some("inference"));
    let pods = pool.context("no pool")?.pods()?;
    let told = list(&worker_of(&pods)?["env"]).find(|told| told["name"] == "TIDEGATE_INFERENCE_LISTEN");
    assert_eq!(told.context("nothing told")?["value"], "[$(POD_IP)]:8083");
    Ok(())
}

/// The Secret that has a file of a container.
fn secret_with<'d>(pods: &Pods<'d>, container: &Value, file: &Path) -> Result<&'d str> {
    let folder = file.parent().context("no folder")?.to_str();
    let mut mounts = list(&container["volumeMounts"]);
    let mount = mounts.find(|mount| mount["mountPath"].as_str() == folder);
    let mount = mount.with_context(|| format!("`{}` is not there", file.display()))?;
    assert_eq!(mount["readOnly"], true, "{mount}");
    let volume = list(&pods.spec["volumes"]).find(|volume| volume["name"] == mount["name"]);
    let secret = &volume.context("no volume")?["secret"];
    secret["secretName"].as_str().context("no Secret")
}

#[test]
fn host_and_workers_show_the_certificates_that_are_named() -> Result<()> {
    let rendered = every_way()?;
    let example = rendered.last().context("no example")?;
    let secrets = tempfile::tempdir()?;
    let told = config_in(example, secrets.path())?.worker.tls.context("no TLS")?;
    assert_eq!(told.server_name.as_deref(), Some("worker.tidegate.internal"));
    let own = [
        ("tidegate-host", "tidegate-workers"),
        ("tidegate-worker-answers", "tidegate-answers"),
        ("tidegate-worker-gpu", "tidegate-workers"),
    ];
    for (name, secret) in own {
        let workload = example.all("Deployment").find(|found| found.name() == name);
        let pods = workload.with_context(|| format!("no `{name}`"))?.pods()?;
        let worker = worker_of(&pods)?;
        let (identity, authorities) = settings_of(worker)?.tls().context("no TLS")?;
        for file in [identity.certificate, identity.key, authorities] {
            assert_eq!(secret_with(&pods, worker, &file)?, secret, "{name}");
        }
        if name == "tidegate-host" {
            let host = &pods.spec["containers"][0];
            for file in [&told.identity.certificate, &told.identity.key, &told.authorities] {
                assert_eq!(secret_with(&pods, host, file)?, "tidegate-to-workers");
            }
            let near = json!([{ "ip": "127.0.0.1", "hostnames": ["tidegate-workers.ml.svc"] }]);
            assert_eq!(
                pods.spec["hostAliases"], near,
                "the worker beside it dials others"
            );
        }
    }
    Ok(())
}

/// What a pool is scaled by, with the hosts of any release.
fn query_of(rendered: &Rendered, pool: &str) -> Result<String> {
    let name = format!("tidegate-worker-{pool}");
    let mut all = rendered.all("ScaledObject");
    let scaled = all
        .find(|found| found.name() == name)
        .context("no ScaledObject")?;
    let trigger = &scaled.spec()["triggers"][0];
    assert_eq!(trigger["type"], "prometheus");
    assert_eq!(trigger["metricType"], "AverageValue");
    assert_eq!(trigger["metadata"]["threshold"], "1");
    let server = trigger["metadata"]["serverAddress"].as_str();
    assert_eq!(server, Some("http://prometheus-operated.monitoring:9090"));
    let query = trigger["metadata"]["query"].as_str().context("no query")?;
    assert!(query.contains(HOSTS), "hosts of others are counted: {query}");
    Ok(query.replace(HOSTS, ""))
}

#[test]
fn a_pool_has_as_many_workers_as_hosts_want_for_what_it_does() -> Result<()> {
    let page = include_str!("../../../../docs/training.md");
    let gpu = "gpu: { gpus: 1, keda: { maxReplicas: 4 } }";
    let others =
        "other: { keda: { maxReplicas: 4 } }, answers: { part: inference, keda: { maxReplicas: 4 } }";
    let values = |pools: &str| {
        let tls = "tls: { hostSecretName: hosts, secretName: workers, serverName: worker }";
        format!("{TRIAL}\ntls: {{ secretName: tls }}\nworker: {{ {tls}, pools: {{ {pools} }} }}")
    };
    let together = Chart::find().render(&values(&format!("{gpu}, {others}")))?;
    let alone = Chart::find().render(&values(gpu))?;
    let mut different = BTreeSet::new();
    for (rendered, pool, sort) in [
        (&together, "gpu", "trains on GPUs"),
        (&together, "other", "takes all other jobs"),
        (&together, "answers", "answers inference"),
        (&alone, "gpu", "takes all jobs"),
    ] {
        let query = query_of(rendered, pool)?;
        let row = format!("| {sort} | `{query}` |");
        assert!(page.contains(&row), "docs/training.md has no {row}");
        different.insert(query);
    }
    assert_eq!(different.len(), 4);
    Ok(())
}

#[test]
fn a_pool_goes_down_to_none_and_slowly() -> Result<()> {
    let values = "
secretName: keys
tls: { secretName: tls }
worker: { pools: { gpu: { gpus: 1, keda: { maxReplicas: 4, cooldownSeconds: 600 } } } }
";
    let rendered = Chart::find().render(values)?;
    let scaled = rendered
        .all("ScaledObject")
        .next()
        .context("no ScaledObject")?
        .spec();
    assert_eq!(
        (&scaled["minReplicaCount"], &scaled["maxReplicaCount"]),
        (&json!(0), &json!(4))
    );
    let behaviour = &scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"];
    for pause in [
        &scaled["cooldownPeriod"],
        &behaviour["scaleDown"]["stabilizationWindowSeconds"],
    ] {
        assert_eq!(pause, &json!(600));
    }
    Ok(())
}
