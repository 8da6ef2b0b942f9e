//! Manifests of one function each, as versions keep them.

use super::*;

#[test]
fn a_function_is_the_same_in_a_manifest_that_has_it_alone() {
    let manifest = Manifest::parse(GOOD, "tidegate.toml").unwrap();
    let texts = manifest.texts();
    assert_eq!(texts.len(), manifest.functions.len());
    for function in &manifest.functions {
        let text = &texts[&function.name];
        let alone = Manifest::parse(text, "tidegate.toml").unwrap();
        assert_eq!(alone.functions, std::slice::from_ref(function), "{text}");
        assert_eq!(alone.app.name, manifest.app.name);
    }
}

#[test]
fn a_spin_app_is_not_taken_apart() {
    let text = r#"
        spin_manifest_version = 2
        [application]
        name = "of-spin"
        [[trigger.http]]
        route = "/..."
        component = "answer"
        [component.answer]
        source = "answer.wasm"
    "#;
    let manifest = Manifest::parse(text, "spin.toml").unwrap();
    assert_eq!(
        manifest.texts(),
        BTreeMap::from([("answer".to_owned(), text.to_owned())])
    );
}
