//! Who may reach whom: nobody, but for what is allowed.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tidegate_infra_tests::{Chart, Rendered, list};

use crate::{TRIAL, every_way};

/// The labels that a policy, a budget or a service selects pods by.
fn selected(kind: &str, spec: &Value) -> Value {
    match kind {
        "Service" => spec["selector"].clone(),
        "NetworkPolicy" => spec["podSelector"]["matchLabels"].clone(),
        _ => spec["selector"]["matchLabels"].clone(),
    }
}

#[test]
fn whatever_selects_pods_finds_some() -> Result<()> {
    for rendered in every_way()? {
        for kind in ["Service", "NetworkPolicy", "PodDisruptionBudget", "Deployment"] {
            for document in rendered.all(kind) {
                let labels = selected(kind, document.spec());
                let mut found = Vec::new();
                for workload in rendered.all("Deployment") {
                    let pods = workload.pods()?;
                    found.extend(pods.are_found_by(&labels).then_some(pods.of));
                }
                assert!(
                    !found.is_empty(),
                    "{kind} `{}` selects nothing by {labels}",
                    document.name()
                );
                if kind == "Deployment" {
                    assert_eq!(found, [document.name()], "a workload has its own pods");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn every_pod_may_do_nothing_but_what_a_policy_allows() -> Result<()> {
    for rendered in every_way()? {
        for workload in rendered.all("Deployment") {
            let pods = workload.pods()?;
            let over = rendered
                .all("NetworkPolicy")
                .filter(|policy| pods.are_found_by(&selected("NetworkPolicy", policy.spec())));
            let over: Vec<&Value> = over.map(|policy| policy.spec()).collect();
            let nothing = over.iter().any(|spec| {
                spec["policyTypes"] == json!(["Ingress", "Egress"])
                    && spec["ingress"].is_null()
                    && spec["egress"].is_null()
            });
            assert!(nothing, "`{}` may do anything", pods.of);
            let dns = over.iter().flat_map(|spec| list(&spec["egress"])).any(|rule| {
                list(&rule["ports"]).any(|port| port["port"] == 53) && list(&rule["to"]).count() > 0
            });
            assert!(dns, "`{}` finds no name", pods.of);
            // A rule without peers is for everybody.
            for rule in over.iter().flat_map(|spec| list(&spec["ingress"])) {
                assert!(
                    list(&rule["from"]).count() > 0,
                    "everybody reaches `{}`: {rule}",
                    pods.of
                );
            }
        }
    }
    Ok(())
}

#[test]
fn workers_reach_hosts_and_hosts_alone_reach_those_that_answer_inference() -> Result<()> {
    let rendered = every_way()?;
    let with_pools = rendered.last().context("no example")?;
    let policy = |name: &str| with_pools.all("NetworkPolicy").find(|found| found.name() == name);
    let worker = policy("tidegate-worker").context("no policy of workers")?.spec();
    assert!(worker["ingress"].is_null(), "{worker}");
    let to_hosts = list(&worker["egress"]).find(|rule| rule["ports"][0]["port"] == 8080);
    let hosts = &to_hosts.context("no way to the hosts")?["to"][0]["podSelector"]["matchLabels"];
    assert_eq!(hosts["app.kubernetes.io/component"], "host");
    let host = policy("tidegate-host").context("no policy of hosts")?.spec();
    let from = list(&host["ingress"]).flat_map(|rule| list(&rule["from"]));
    let mut workers = from.map(|peer| &peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"]);
    assert!(workers.any(|component| component == "worker"), "{host}");

    let asked = policy("tidegate-inference").context("no policy of workers that answer")?;
    let labels = selected("NetworkPolicy", asked.spec());
    for workload in with_pools.all("Deployment") {
        let pods = workload.pods()?;
        let answers = pods.of == "tidegate-worker-answers";
        assert_eq!(pods.are_found_by(&labels), answers, "{}", pods.of);
    }
    let hosts = json!([{ "podSelector": { "matchLabels": hosts } }]);
    let inference = json!([{ "protocol": "TCP", "port": 8083 }]);
    let allowed = json!([{ "ports": inference, "from": hosts }]);
    assert_eq!(asked.spec()["ingress"], allowed);
    let to_workers = list(&host["egress"]).find(|rule| rule["ports"] == inference);
    let to_workers = &to_workers.context("no way to the workers")?["to"];
    assert_eq!(to_workers[0]["podSelector"]["matchLabels"], labels);
    for without in &rendered[..rendered.len() - 1] {
        assert!(!without.has("NetworkPolicy", &json!("tidegate-inference")));
    }
    Ok(())
}

#[test]
fn nothing_reaches_the_metadata_of_the_node_and_nobody_s3_or_grpc_unasked() -> Result<()> {
    for rendered in every_way()? {
        for block in blocks(&rendered) {
            let own = ["10.0.0.0/16", "100.64.0.0/16"]
                .iter()
                .any(|range| block["cidr"] == *range);
            assert!(
                own || list(&block["except"]).any(|range| range == "169.254.0.0/16"),
                "{block}"
            );
        }
    }
    let rules = |values: &str, port: u16| {
        let rendered = Chart::find().render(values)?;
        let host = rendered
            .all("NetworkPolicy")
            .find(|found| found.name() == "tidegate-host");
        let spec = host.context("no policy of hosts")?.spec();
        let rules = list(&spec["ingress"]).filter(|rule| rule["ports"][0]["port"] == port);
        Ok::<_, anyhow::Error>(rules.count())
    };
    for (port, callers) in [(9000, "s3From"), (8081, "grpcFrom")] {
        assert_eq!(rules(TRIAL, port)?, 0);
        let asked = format!("{TRIAL}\nnetworkPolicy: {{ {callers}: [{{ podSelector: {{}} }}] }}");
        assert_eq!(rules(&asked, port)?, 1, "{callers}");
    }
    Ok(())
}

fn blocks(rendered: &Rendered) -> Vec<&Value> {
    let rules = rendered
        .all("NetworkPolicy")
        .flat_map(|policy| list(&policy.spec()["egress"]));
    let peers = rules.flat_map(|rule| list(&rule["to"]));
    peers
        .map(|peer| &peer["ipBlock"])
        .filter(|block| block.is_object())
        .collect()
}
