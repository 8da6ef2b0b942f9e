//! Models as people bring them: what is registered, under which aliases, and what is refused.

use std::sync::Arc;

use tidegate_runtime::store::Publication;
use tidegate_runtime::store::memory::Memory;

use super::*;

/// The bytes of a field of a message: its number, then what it holds.
fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![(tag << 3) | 2];
    prost::encoding::encode_varint(content.len() as u64, &mut out);
    out.extend_from_slice(content);
    out
}

fn number(tag: u8, value: u64) -> Vec<u8> {
    let mut out = vec![tag << 3];
    prost::encoding::encode_varint(value, &mut out);
    out
}

/// A tensor of `[N, width]` floats, as an input or output.
fn value(name: &str, element: u64, width: u64) -> Vec<u8> {
    let shape = [field(1, &field(2, b"N")), field(1, &number(1, width))].concat();
    let tensor = [number(1, element), field(2, &shape)].concat();
    [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
}

fn opset(domain: &str, version: u64) -> Vec<u8> {
    field(8, &[field(1, domain.as_bytes()), number(2, version)].concat())
}

fn model(opsets: &[Vec<u8>], graph: &[Vec<u8>]) -> Vec<u8> {
    [number(1, 8), field(7, &graph.concat()), opsets.concat()].concat()
}

fn fine() -> Vec<u8> {
    let graph = [field(11, &value("x", 1, 3)), field(12, &value("score", 1, 1))];
    model(&[opset("", 17)], &graph)
}

async fn store(file: Vec<u8>) -> Arc<Memory> {
    let store = Arc::new(Memory::default());
    let mut stage = store.stage().await.unwrap();
    stage.write(file.into()).await.unwrap();
    let unit = Unit {
        objects: vec![Publication {
            bucket: "models".into(),
            key: "m.onnx".into(),
            staged: Some(stage.finish().await.unwrap()),
            content_type: None,
            user: BTreeMap::new(),
            condition: Condition::None,
        }],
        ..Unit::default()
    };
    store.commit(unit).await.unwrap();
    store
}

fn offered(auc: Option<f64>, alias: Option<&str>) -> Offered {
    Offered {
        name: "mine".into(),
        bucket: "models".into(),
        key: "m.onnx".into(),
        metrics: auc.map(|auc| ("auc".to_owned(), auc)).into_iter().collect(),
        parameters: Map::new(),
        alias: alias.map(Into::into),
    }
}

async fn alias(store: &Memory, name: &str) -> Option<u64> {
    let key = registry::alias_key("mine", name);
    let row = store.get(registry::TABLE, &key).await.unwrap()?;
    Some(decoded::<Alias>(&row.value).unwrap().version)
}

#[tokio::test]
async fn a_model_is_registered_with_its_tensors_by_the_rules_of_promotion() {
    let store = store(fine()).await;
    let register = async |auc, alias| register(store.as_ref(), offered(auc, alias), 7).await.unwrap();
    let first = register(None, None).await;
    assert_eq!((first.version, first.decision), (1, Decision::Promote));
    assert_eq!(first.artifact.size, fine().len() as u64);
    let input = &first.signature.inputs[0];
    assert_eq!(
        (input.name.as_str(), input.datatype.as_str(), &input.shape[..]),
        ("x", "FP32", &[-1, 3][..])
    );
    assert_eq!(register(None, None).await.decision, Decision::Candidate);
    assert_eq!(
        (alias(&store, "champion").await, alias(&store, "candidate").await),
        (Some(1), Some(2))
    );
    let given = register(Some(0.7), Some("champion")).await;
    assert_eq!(given.decision, Decision::Promote);
    assert_eq!(
        (alias(&store, "champion").await, alias(&store, "previous").await),
        (Some(3), Some(1))
    );
    assert_eq!(
        register(Some(0.6), Some("canary")).await.decision,
        Decision::Reject
    );
    assert_eq!(
        (alias(&store, "champion").await, alias(&store, "canary").await),
        (Some(3), Some(4))
    );
    assert_eq!(register(Some(0.8), None).await.decision, Decision::Promote);
    assert_eq!(
        (alias(&store, "champion").await, alias(&store, "previous").await),
        (Some(5), Some(3))
    );
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_with_all_that_is_wrong() {
    let outside = field(5, &[field(8, b"w"), number(14, 1)].concat());
    let sequence = field(12, &field(1, b"probabilities"));
    let file = model(
        &[opset("", 99), opset("my.ops", 1)],
        &[field(11, &value("x", 16, 3)), sequence, outside],
    );
    let store = store(file).await;
    let refused = register(store.as_ref(), offered(None, None), 7)
        .await
        .unwrap_err()
        .to_string();
    for part in [
        "`models/m.onnx` cannot be served",
        "version 99 of `ai.onnx`, allowed are 7 to 25",
        "operators of `my.ops`",
        "its constant `w` lies outside of the file",
        "its input `x` has elements of type 16",
        "its output `probabilities` is no tensor",
    ] {
        assert!(refused.contains(part), "`{part}` is not in: {refused}");
    }
    assert!(
        store
            .get(registry::TABLE, &registry::next_key("mine"))
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn names_and_files_that_cannot_be_are_refused() {
    let store = store(b"no model".to_vec()).await;
    let refused = async |offered| {
        register(store.as_ref(), offered, 7)
            .await
            .unwrap_err()
            .to_string()
    };
    assert!(refused(offered(None, None)).await.contains("it is no ONNX file"));
    let elsewhere = Offered {
        key: "none".into(),
        ..offered(None, None)
    };
    assert_eq!(refused(elsewhere).await, "there is no object `models/none`");
    for name in ["a b", "a@1", ""] {
        let named = Offered {
            name: name.into(),
            ..offered(None, None)
        };
        assert!(refused(named).await.contains("name"), "{name}");
    }
    let versioned = refused(offered(None, Some("3"))).await;
    assert!(versioned.contains("`alias` is `3`"), "{versioned}");
}

#[tokio::test]
async fn a_variant_is_registered_once_for_its_job_and_takes_nobodys_place() {
    let store = store(fine()).await;
    let champion = register(store.as_ref(), offered(None, None), 1).await.unwrap();
    let variant = |alias: &str, of: &str| Variant {
        name: champion.model.clone(),
        of: of.to_owned(),
        bucket: "models".to_owned(),
        key: "m.onnx".to_owned(),
        alias: alias.to_owned(),
        metrics: BTreeMap::from([("auc".to_owned(), 0.99)]),
        parameters: Map::new(),
    };
    let made = register_variant(store.as_ref(), variant("int8", "1"), "J1", 2)
        .await
        .unwrap();
    assert_eq!((made.version, made.origin.job.as_str()), (2, "J1"));
    assert_eq!(made.signature, champion.signature);
    let again = register_variant(store.as_ref(), variant("int8", "1"), "J1", 3)
        .await
        .unwrap();
    assert_eq!(again, made);
    let other = register_variant(store.as_ref(), variant("int8", "1"), "J2", 4)
        .await
        .unwrap();
    assert_eq!(other.version, 3);
    for (alias, version) in [("champion", Some(1)), ("candidate", None), ("int8", Some(3))] {
        assert_eq!(self::alias(&store, alias).await, version, "{alias}");
    }
    for (alias, of, part) in [
        (
            "champion",
            "1",
            "allowed are names but for `champion`, `previous`, `candidate`",
        ),
        ("7", "1", "allowed are names"),
        ("int8", "9", "`of` is `9`, which is no version"),
    ] {
        let refused = register_variant(store.as_ref(), variant(alias, of), "J3", 5).await;
        let said = refused.unwrap_err().to_string();
        assert!(said.contains(part), "{said}");
    }
}
