//! Traces: one from an upload to the model that came of it, one from a request to the worker that answered it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tidegate_harness::{Host, until};
use tidegate_it::observers::{Collector, Span};
use tidegate_it::{Flavour, Scene, interactions, settled_run};

const LIMIT: Duration = Duration::from_secs(60);

async fn observed(scene: &Scene, endpoint: &str) -> Result<Host> {
    let mut options = scene.options(scene.small_app()?);
    let collector = ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), endpoint.to_owned());
    options.env.push(collector);
    Host::start(options).await
}

/// Waits for a trace that has spans of all these names.
async fn trace_with(collector: &Collector, names: &[&str]) -> Result<Vec<Span>> {
    let what = format!("a trace with {names:?}");
    let found = until(&what, LIMIT, async || {
        let mut traces: BTreeMap<String, Vec<Span>> = BTreeMap::new();
        for span in collector.spans()? {
            traces.entry(span.trace.clone()).or_default().push(span);
        }
        Ok(traces.into_values().find(|spans| {
            let known: BTreeSet<&str> = spans.iter().map(|span| span.name.as_str()).collect();
            names.iter().all(|name| known.contains(name))
        }))
    });
    let seen = || {
        collector
            .spans()
            .map(|spans| spans.iter().map(|span| span.name.clone()).collect::<Vec<_>>())
    };
    found
        .await
        .map_err(|error| error.context(format!("there were {:?}", seen())))
}

/// That the spans are one tree, and its root.
fn root_of(spans: &[Span]) -> &Span {
    let ids: BTreeSet<&str> = spans.iter().map(|span| span.span.as_str()).collect();
    assert_eq!(ids.len(), spans.len(), "an id is there twice: {spans:#?}");
    let (inner, roots): (Vec<&Span>, Vec<&Span>) =
        spans.iter().partition(|span| ids.contains(span.parent.as_str()));
    let [root] = roots.as_slice() else {
        panic!("{} spans stand below none of the others: {roots:#?}", roots.len());
    };
    assert_eq!(inner.len() + 1, spans.len());
    root
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found = spans.iter().find(|span| span.name == name);
    found.unwrap_or_else(|| panic!("no span `{name}` in {spans:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_goes_from_an_upload_to_the_model() -> Result<()> {
    let (scene, collector) = (Scene::new()?, Collector::start().await?);
    let host = observed(&scene, &collector.endpoint).await?;
    let rows = interactions(4000, 1, Flavour::Clean);
    host.bucket("data").put("raw/first.csv", rows).await?;
    let run = settled_run(&host, "raw/first.csv").await?;
    let chain = [
        ("PUT s3", "SERVER", "tidegate"),
        ("send tidegate.object.created", "PRODUCER", "tidegate"),
        ("process ingest", "CONSUMER", "tidegate"),
        ("process validate", "CONSUMER", "tidegate"),
        ("process features", "CONSUMER", "tidegate"),
        ("process train", "CONSUMER", "tidegate"),
        ("process train.two-tower", "CONSUMER", "tidegate"),
        ("process evaluate", "CONSUMER", "tidegate"),
    ];
    let mut names = chain.map(|(name, ..)| name).to_vec();
    names.push("work");
    let spans = trace_with(&collector, &names).await?;
    assert_eq!(root_of(&spans).name, "PUT s3");
    for [(above, ..), (name, kind, service)] in chain.array_windows() {
        let span = named(&spans, name);
        assert_eq!(
            span.parent,
            named(&spans, above).span,
            "`{name}` stands below `{above}`"
        );
        assert_eq!(
            (span.kind.as_str(), span.service.as_str()),
            (*kind, *service),
            "{span:#?}"
        );
        assert_eq!(span.attributes["tidegate.run"], run.run, "{span:#?}");
        assert!(span.start <= span.end && !span.failed, "{span:#?}");
    }
    let work = named(&spans, "work");
    assert_eq!(work.parent, named(&spans, "process train.two-tower").span);
    assert_eq!(work.service, "tidegate-worker");
    let ingest = named(&spans, "process ingest");
    assert_eq!(ingest.attributes["faas.coldstart"], true);
    assert_eq!(ingest.attributes["cloudevents.event_subject"], "raw/first.csv");

    let request = json!({ "user_id": 1, "item_ids": [1, 2, 3] });
    host.https()?.post("/predict", &request).await?;
    let spans = trace_with(&collector, &["POST function", "rank", "ModelInfer"]).await?;
    let both = until("both sides of the inference", LIMIT, async || {
        let of_trace = |span: &Span| span.trace == spans[0].trace;
        let spans: Vec<Span> = collector.spans()?.into_iter().filter(of_trace).collect();
        let has = |told: &dyn Fn(&Span) -> bool| spans.iter().any(told);
        let whole = has(&|span| span.kind == "CLIENT") && has(&|span| span.service == "tidegate-worker");
        Ok(whole.then_some(spans))
    });
    let spans = both.await?;
    assert_eq!(root_of(&spans).name, "POST function");
    assert_eq!(named(&spans, "rank").parent, root_of(&spans).span);
    let asked = spans.iter().find(|span| span.kind == "CLIENT").expect("a client");
    assert_eq!(asked.parent, named(&spans, "rank").span);
    let answered = spans.iter().find(|span| span.service == "tidegate-worker");
    assert_eq!(answered.map(|span| &span.parent), Some(&asked.span), "{spans:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fails_leaves_a_span_that_says_why() -> Result<()> {
    let (scene, collector) = (Scene::new()?, Collector::start().await?);
    let host = observed(&scene, &collector.endpoint).await?;
    host.bucket("data")
        .put("raw/odd.csv", b"no,such,columns\n1,2,3\n".to_vec())
        .await?;
    let run = settled_run(&host, "raw/odd.csv").await?;
    let spans = trace_with(&collector, &["process ingest"]).await?;
    let failed = named(&spans, "process ingest");
    let reason = run.steps[0].reason.clone().unwrap_or_default();
    assert!(failed.failed && failed.message == reason, "{failed:#?} {run:#?}");
    let step = &run.steps[0];
    assert_eq!(step.trace_id.as_ref(), Some(&failed.trace));
    assert_eq!(step.span_id.as_ref(), Some(&failed.span));
    assert_eq!(failed.events["exception"]["exception.type"], "reject");
    assert_eq!(failed.events["exception"]["exception.message"], reason);
    Ok(())
}
