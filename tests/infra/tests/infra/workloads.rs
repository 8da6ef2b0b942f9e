//! The chart's workloads: documents that Kubernetes takes, containers that are confined, what they are told.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tidegate::config::Config;
use tidegate_infra_tests::{Chart, Document, Rendered, list};

use crate::workers::settings_of;
use crate::{TRIAL, every_way};

/// Kinds of others, for which there is no schema here: `every_foreign_document_has_the_fields_of_its_kind` looks at them.
const FOREIGN: [&str; 4] = [
    "cert-manager.io/v1 Certificate",
    "keda.sh/v1alpha1 ScaledObject",
    "keda.sh/v1alpha1 TriggerAuthentication",
    "monitoring.coreos.com/v1 ServiceMonitor",
];
/// Where the chart puts secrets.
const SECRETS: &str = "/etc/tidegate/secrets";

#[test]
fn every_document_is_what_kubernetes_takes() -> Result<()> {
    for rendered in every_way()? {
        assert_eq!(rendered.mistakes, Vec::<String>::new());
        assert_eq!(rendered.lint, Vec::<String>::new());
        assert!(
            rendered
                .foreign
                .iter()
                .all(|kind| FOREIGN.contains(&kind.as_str())),
            "{:?}",
            rendered.foreign
        );
        let kinds: Vec<&str> = rendered.documents.iter().map(Document::kind).collect();
        for kind in [
            "Deployment",
            "Service",
            "ConfigMap",
            "ServiceAccount",
            "NetworkPolicy",
            "PodDisruptionBudget",
        ] {
            assert!(kinds.contains(&kind), "no {kind} among {kinds:?}");
        }
    }
    Ok(())
}

#[test]
fn a_document_that_kubernetes_would_not_take_is_found() -> Result<()> {
    let values =
        format!("{TRIAL}\nnetworkPolicy: {{ hostEgress: [{{ ports: [{{ port: 5432, protocl: TCP }}] }}] }}");
    let rendered = Chart::find().render(&values)?;
    let told = rendered.mistakes.first().context("no mistake is found")?;
    assert!(
        told.contains("NetworkPolicy `tidegate-host`") && told.contains("protocl"),
        "{told}"
    );
    Ok(())
}

#[test]
fn every_foreign_document_has_the_fields_of_its_kind() -> Result<()> {
    let mut seen = BTreeSet::new();
    for rendered in every_way()? {
        seen.extend(rendered.foreign.iter().cloned());
        let scaled = rendered.all("ScaledObject");
        for scaled in scaled.filter(|scaled| scaled.name() == "tidegate-host") {
            scales_on_what_waits(&rendered, scaled);
            seen.extend(list(&scaled.spec()["triggers"]).map(|trigger| trigger["type"].to_string()));
        }
        for asking in rendered.all("TriggerAuthentication") {
            assert_eq!(asking.spec(), &json!({ "podIdentity": { "provider": "aws" } }));
        }
        for certificate in rendered.all("Certificate") {
            assert!(list(&certificate.spec()["dnsNames"]).any(|name| name == "tidegate-workers.ml.svc"));
            assert_eq!(certificate.spec()["secretName"], "tidegate-tls");
            assert_eq!(
                certificate.spec()["issuerRef"],
                json!({ "kind": "ClusterIssuer", "name": "internal" })
            );
        }
        for monitor in rendered.all("ServiceMonitor") {
            let endpoint = &monitor.spec()["endpoints"][0];
            assert_eq!(
                (&endpoint["port"], &endpoint["path"]),
                (&json!("https"), &json!("/metrics"))
            );
            assert_eq!(endpoint["tlsConfig"]["serverName"], "tidegate.ml.svc");
        }
    }
    // Hosts are scaled by both that know how long events wait, and by CPU.
    assert_eq!(seen.len(), FOREIGN.len() + 3, "{seen:?}");
    Ok(())
}

/// By Prometheus, or by CloudWatch; and by CPU.
fn scales_on_what_waits(rendered: &Rendered, scaled: &Document) {
    let triggers: Vec<&Value> = list(&scaled.spec()["triggers"]).collect();
    let [waiting, busy] = triggers.as_slice() else {
        panic!("{scaled:?}");
    };
    assert_eq!(busy["type"], "cpu");
    assert_eq!(waiting["metricType"], "Value");
    let metadata = &waiting["metadata"];
    match waiting["type"].as_str() {
        // The names that docs/seeing.md tells.
        Some("prometheus") => {
            let page = include_str!("../../../../docs/seeing.md");
            for metric in [
                "tidegate_queue_events",
                "messaging_client_consumed_messages_total",
            ] {
                assert!(metadata["query"].as_str().unwrap().contains(metric), "{waiting}");
                assert!(page.contains(metric), "`{metric}` is no metric");
            }
        }
        Some("aws-cloudwatch") => {
            assert_eq!(metadata["awsRegion"], "eu-central-1");
            let expression = metadata["expression"].as_str().unwrap();
            assert!(
                expression.contains("ApproximateAgeOfOldestMessage"),
                "{expression}"
            );
            assert!(
                rendered.has("TriggerAuthentication", &waiting["authenticationRef"]["name"]),
                "{waiting}"
            );
        }
        other => panic!("`{other:?}` knows nothing of what waits"),
    }
    let texts = triggers
        .iter()
        .flat_map(|trigger| trigger["metadata"].as_object().unwrap().values());
    assert!(
        texts.into_iter().all(Value::is_string),
        "KEDA takes texts only: {scaled:?}"
    );
}

#[test]
fn every_container_is_confined_probed_and_bounded() -> Result<()> {
    for rendered in every_way()? {
        for workload in rendered.all("Deployment") {
            let pods = workload.pods()?;
            let security = &pods.spec["securityContext"];
            assert_eq!(security["runAsNonRoot"], true, "{}", pods.of);
            assert_eq!(
                security["seccompProfile"]["type"], "RuntimeDefault",
                "{}",
                pods.of
            );
            assert_eq!(pods.spec["automountServiceAccountToken"], false, "{}", pods.of);
            assert!(pods.containers().count() > 0, "{}", pods.of);
            for container in pods.containers() {
                confined(container);
            }
            let served = list(&pods.spec["containers"]);
            assert!(
                served
                    .into_iter()
                    .all(|container| container["readinessProbe"].is_object()),
                "{}",
                pods.of
            );
        }
    }
    Ok(())
}

fn confined(container: &Value) {
    let security = &container["securityContext"];
    assert_eq!(security["allowPrivilegeEscalation"], false, "{container}");
    assert_eq!(security["readOnlyRootFilesystem"], true, "{container}");
    assert_eq!(
        security["capabilities"],
        json!({ "drop": ["ALL"] }),
        "{container}"
    );
    assert!(security["privileged"].is_null(), "{container}");
    for probe in ["startupProbe", "livenessProbe"] {
        assert!(container[probe].is_object(), "no {probe}: {container}");
    }
    assert!(
        container["resources"]["limits"]["memory"].is_string(),
        "{container}"
    );
    assert!(
        container["resources"]["requests"]["cpu"].is_string(),
        "{container}"
    );
    let places: Vec<&Value> = list(&container["volumeMounts"])
        .map(|mount| &mount["mountPath"])
        .collect();
    assert!(
        places.contains(&&json!("/tmp")),
        "nothing to write to: {container}"
    );
    let ports: Vec<&Value> = list(&container["ports"]).map(|port| &port["name"]).collect();
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        for way in ["httpGet", "tcpSocket"] {
            let port = &container[probe][way]["port"];
            assert!(
                port.is_null() || ports.contains(&port),
                "{probe} asks {port} of {ports:?}"
            );
        }
    }
}

#[test]
fn whatever_a_document_names_is_there() -> Result<()> {
    for rendered in every_way()? {
        for workload in rendered.all("Deployment") {
            let pods = workload.pods()?;
            assert!(
                rendered.has("ServiceAccount", &pods.spec["serviceAccountName"]),
                "{}",
                pods.of
            );
            for volume in list(&pods.spec["volumes"]) {
                let claim = &volume["persistentVolumeClaim"]["claimName"];
                assert!(
                    claim.is_null() || rendered.has("PersistentVolumeClaim", claim),
                    "{volume}"
                );
                let config = &volume["configMap"]["name"];
                assert!(config.is_null() || rendered.has("ConfigMap", config), "{volume}");
            }
            let volumes: Vec<&Value> = list(&pods.spec["volumes"])
                .map(|volume| &volume["name"])
                .collect();
            let mut mounts = pods
                .containers()
                .flat_map(|container| list(&container["volumeMounts"]));
            assert!(
                mounts.all(|mount| volumes.contains(&&mount["name"])),
                "{}",
                pods.of
            );
        }
        for kind in ["HorizontalPodAutoscaler", "ScaledObject"] {
            for scaler in rendered.all(kind) {
                let target = &scaler.spec()["scaleTargetRef"];
                assert!(rendered.has("Deployment", &target["name"]), "{scaler:?}");
                let workload = rendered
                    .all("Deployment")
                    .find(|found| target["name"] == found.name())
                    .unwrap();
                assert!(
                    workload.spec()["replicas"].is_null(),
                    "a scaler and a number would pull against each other"
                );
            }
        }
        for ingress in rendered.all("Ingress") {
            let backend = &ingress.spec()["rules"][0]["http"]["paths"][0]["backend"]["service"];
            let service = rendered
                .all("Service")
                .find(|found| backend["name"] == found.name())
                .context("no service")?;
            assert!(list(&service.spec()["ports"]).any(|port| port["name"] == backend["port"]["name"]));
        }
    }
    Ok(())
}

/// What the host is told, with secrets in a folder of the test's own.
pub(crate) fn config_in(rendered: &Rendered, secrets: &std::path::Path) -> Result<Config> {
    for key in ["api-token", "worker-token", "s3-access-key", "s3-secret-key"] {
        std::fs::write(secrets.join(key), format!("the {key}\n"))?;
    }
    let map = rendered.all("ConfigMap").next().context("no ConfigMap")?;
    let text = map.value["data"]["host.toml"].as_str().context("no host.toml")?;
    let text = text.replace(SECRETS, &secrets.display().to_string());
    Ok(Config::parse(&text, "host.toml")?)
}

#[test]
fn the_host_takes_the_configuration_in_the_config_map() -> Result<()> {
    for rendered in every_way()? {
        let secrets = tempfile::tempdir()?;
        let config = config_in(&rendered, secrets.path())?;
        let host = rendered
            .all("Deployment")
            .find(|found| found.name() == "tidegate-host")
            .context("no host")?;
        let pods = host.pods()?;
        for (address, port) in [
            (config.gateway.listen, "https"),
            (config.inference.listen, "grpc"),
            (config.s3.listen, "s3"),
        ] {
            assert!(
                address.ip().is_unspecified(),
                "{address} is not reached from other pods"
            );
            assert!(
                pods.ports()
                    .any(|of| of["name"] == port && of["containerPort"] == address.port()),
                "{address}"
            );
        }
        assert_eq!(config.gateway.api_token.as_deref(), Some("the api-token"));
        assert_eq!(config.worker.token.as_deref(), Some("the worker-token"));
        assert_eq!(
            (config.s3.access_key.as_str(), config.s3.secret_key.as_str()),
            ("the s3-access-key", "the s3-secret-key")
        );
        assert!(!config.worker.start, "the worker is a container of its own");

        let container = &pods.spec["containers"][0];
        let mounts: Vec<&Value> = list(&container["volumeMounts"])
            .map(|mount| &mount["mountPath"])
            .collect();
        assert!(
            mounts.contains(&&json!(config.data_dir)) && mounts.contains(&&json!(SECRETS)),
            "{mounts:?}"
        );
        let pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
            .as_u64()
            .context("no pause")?;
        let grace = pods.spec["terminationGracePeriodSeconds"]
            .as_u64()
            .context("no grace")?;
        let needed = Duration::from_secs(pause) + config.drain;
        assert!(
            needed < Duration::from_secs(grace),
            "{needed:?} do not fit into {grace} s"
        );

        let one = host.spec()["replicas"] == 1 && host.spec()["strategy"]["type"] == "Recreate";
        assert_eq!(one, config.store.is_embedded(), "an embedded store has one host");
    }
    Ok(())
}

#[test]
fn programs_of_one_pod_listen_on_ports_of_their_own() -> Result<()> {
    for rendered in every_way()? {
        let secrets = tempfile::tempdir()?;
        let config = config_in(&rendered, secrets.path())?;
        let host = [config.gateway.listen, config.inference.listen, config.s3.listen];
        for workload in rendered.all("Deployment") {
            let pods = workload.pods()?;
            let mut taken: Vec<u16> = match pods.of {
                "tidegate-host" => host.iter().map(|address| address.port()).collect(),
                _ => Vec::new(),
            };
            for worker in pods
                .containers()
                .filter(|container| container["name"] == "worker")
            {
                let settings = settings_of(worker)?;
                let told = [settings.health, Some(settings.listen)].into_iter().flatten();
                // Port 0 takes a free one.
                taken.extend(told.map(|address| address.port()).filter(|port| *port != 0));
            }
            let different: BTreeSet<&u16> = taken.iter().collect();
            assert_eq!(different.len(), taken.len(), "{}: {taken:?}", pods.of);
        }
    }
    Ok(())
}

#[test]
fn what_a_chart_adds_to_the_configuration_is_there() -> Result<()> {
    let values = format!(
        "{TRIAL}\nhost: {{ drainSeconds: 90, config: {{ gateway: {{ max_body: 16MiB }}, \
        invocations: {{ total: 7, tenants: {{ batch: 3 }} }}, recorder: {{ batch: 1000000 }}, \
        inference: {{ models: {{ sums: {{ max_batch_size: 32 }} }} }} }} }}"
    );
    let rendered = Chart::find().render(&values)?;
    let secrets = tempfile::tempdir()?;
    let told = config_in(&rendered, secrets.path()).unwrap_err().to_string();
    assert!(told.contains("`recorder.batch` is `1000000`"), "{told}");
    let rendered = Chart::find().render(&values.replace("1000000", "10"))?;
    let config = config_in(&rendered, secrets.path())?;
    assert_eq!(
        (config.gateway.max_body, config.drain),
        (16 << 20, Duration::from_secs(90))
    );
    assert_eq!(
        (config.invocations.total, config.invocations.tenants["batch"]),
        (7, 3)
    );
    assert!(config.inference.models.contains_key("sums"));
    Ok(())
}
