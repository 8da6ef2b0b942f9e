//! The configuration, as an operator writes it.

use super::*;

#[test]
fn an_empty_file_is_all_defaults() {
    let config = Config::parse("", "t.toml").unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.gateway.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.gateway.max_body, 8 << 20);
    assert_eq!(config.s3.access_key, "tidegate");
    assert_eq!(config.drain, Duration::from_secs(25));
}

#[test]
fn what_is_set_is_taken() {
    let text = "drain = \"3s\"\ncomponents = [\"a\", \"b\"]\n[gateway]\nlisten = \"127.0.0.1:0\"\nmax_body = 4096\n\
        [worker]\nstart = false\ncommands = { fit = [\"python3\", \"/opt/fit.py\"] }\n[recorder]\nbatch = 7\n";
    let config = Config::parse(text, "t.toml").unwrap();
    assert_eq!(config.drain, Duration::from_secs(3));
    assert_eq!(config.components.len(), 2);
    assert_eq!(config.gateway.listen.port(), 0);
    assert_eq!(config.gateway.max_body, 4096);
    assert!(!config.worker.start);
    assert_eq!(config.worker.commands["fit"], ["python3", "/opt/fit.py"]);
    assert_eq!(config.recorder.batch, 7);
}

#[test]
fn every_mistake_is_reported_with_its_path() {
    let text = "colour = 1\ndrain = 5\ns3 = 3\n[gateway]\nlisten = \"here\"\nmax_body = \"2GiB\"\nmax_bodies = 1\n\
        max_requests = 0\n[worker]\nstart = \"yes\"\ntoken = 17\ncommands = { fit = [], sh = \"sh\" }\n";
    let message = Config::parse(text, "t.toml").unwrap_err().to_string();
    for part in [
        "t.toml: `colour` is not known, allowed are `attached`, `components`, `data_dir`, `drain`",
        "`drain` is `5`, expected a duration from `0s` to `1h`",
        "`s3` is `3`, expected a table `[s3]`",
        "`gateway.listen` is `\"here\"`, expected an address",
        "`gateway.max_body` is `\"2GiB\"`, expected a size from `1KiB` to `1GiB`",
        "`gateway.max_bodies` is not known, allowed are `gateway.api_token`",
        "`gateway.max_requests` is `0`, expected a number from 1 to 100000",
        "`worker.start` is `\"yes\"`, expected `true` or `false`",
        "`worker.token` is something else, expected a text",
        "`worker.commands.fit` is `[]`, expected a list of a program and its arguments",
        "`worker.commands.sh` is `\"sh\"`, expected a list of a program",
    ] {
        assert!(message.contains(part), "missing: {part}\n{message}");
    }
    assert_eq!(message.lines().count(), 11, "{message}");
}

#[test]
fn a_store_in_aws_needs_a_bucket_and_takes_other_services() {
    let parse = |text: &str| Config::parse(text, "t.toml");
    let message = parse("[store]\nkind = \"aws\"").unwrap_err().to_string();
    assert_eq!(
        message,
        "t.toml: `store.bucket` is missing: a store in AWS keeps its objects there"
    );
    let message = parse("[store]\nkind = \"gcp\"").unwrap_err().to_string();
    assert_eq!(
        message,
        "t.toml: `store.kind` is `\"gcp\"`, expected `\"embedded\"` or `\"aws\"`"
    );
    let text = "[store]\nkind = \"aws\"\nbucket = \"acme\"\nregion = \"eu-central-1\"\ns3 = \"http://s3\"\n";
    let StoreConfig::Aws(settings) = parse(text).unwrap().store else {
        panic!("not in AWS");
    };
    assert_eq!(
        (settings.bucket.as_str(), settings.table.as_str()),
        ("acme", "tidegate")
    );
    assert_eq!(settings.endpoints.s3.as_deref(), Some("http://s3"));
    assert_eq!(settings.visibility, Duration::from_secs(30));
}

#[test]
fn an_embedded_store_may_have_its_objects_in_s3() {
    let parse = |text: &str| Config::parse(text, "t.toml");
    let message = parse("[store]\nobjects = \"s3\"").unwrap_err().to_string();
    assert_eq!(
        message,
        "t.toml: `store.bucket` is missing: `store.objects` is `\"s3\"`"
    );
    let message = parse("[store]\nkind = \"aws\"\nbucket = \"b\"\nobjects = \"files\"").unwrap_err();
    assert_eq!(
        message.to_string(),
        "t.toml: `store.objects` is `\"files\"`, expected `\"s3\"`"
    );
    let text = "[store]\nobjects = \"s3\"\nbucket = \"acme\"\ns3 = \"http://s3\"\n";
    let StoreConfig::Embedded(Some(settings)) = parse(text).unwrap().store else {
        panic!("not in S3");
    };
    assert_eq!(settings.bucket, "acme");
    assert_eq!(parse("").unwrap().store, StoreConfig::Embedded(None));
}

#[test]
fn buckets_of_others_are_attached_to_a_store_in_aws() {
    let parse = |text: &str| Config::parse(text, "t.toml");
    let store = "[store]\nkind = \"aws\"\nbucket = \"b\"\n";
    let acme = "[attached.acme]\nbucket = \"acme-raw\"\nprefix = \"in/\"\nqueue = \"q\"\n";
    let attached = parse(&format!("{store}{acme}")).unwrap().store.attached();
    let found = &attached["acme"];
    assert_eq!(
        (found.bucket.as_str(), found.prefix.as_str()),
        ("acme-raw", "in/")
    );
    assert_eq!(
        (found.queue.as_deref(), found.endpoint.as_deref()),
        (Some("q"), None)
    );
    let message = parse(acme).unwrap_err().to_string();
    assert_eq!(
        message,
        "t.toml: `attached` is set, and `store.kind` is `\"embedded\"`, expected `\"aws\"`"
    );
    let wrong = "[attached]\nacme = 3\n[attached.X]\nbuckets = \"b\"\n";
    let message = parse(&format!("{store}{wrong}")).unwrap_err().to_string();
    for part in [
        "t.toml: `attached.acme` is `3`, expected a table `[attached.acme]`",
        "`attached.X.bucket` is missing: it is the bucket, as S3 knows it",
        "`attached.X.buckets` is not known, allowed are `bucket`, `endpoint`, `prefix`, `queue`, `region`",
        "`attached.X` is no name of a bucket: 3 to 63 lower-case letters",
    ] {
        assert!(message.contains(part), "missing: {part}\n{message}");
    }
    assert_eq!(message.lines().count(), 4, "{message}");
}

#[test]
fn secrets_may_lie_in_files_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (token, empty) = (file("token", "t0p\n"), file("empty", "\n"));
    let text = format!(
        "[gateway]\napi_token_file = {token:?}\n[s3]\naccess_key = \"a\"\nsecret_key_file = {token:?}\n\
         [worker]\ntoken_file = {token:?}\n"
    );
    let config = Config::parse(&text, "t.toml").unwrap();
    assert_eq!(config.gateway.api_token.as_deref(), Some("t0p"));
    assert_eq!(config.worker.token.as_deref(), Some("t0p"));
    assert_eq!(
        (config.s3.access_key.as_str(), config.s3.secret_key.as_str()),
        ("a", "t0p")
    );

    let text = format!(
        "[gateway]\napi_token = \"t\"\napi_token_file = {token:?}\n[s3]\nsecret_key_file = {empty:?}\n\
         [worker]\ntoken_file = \"/nowhere/token\"\n"
    );
    let message = Config::parse(&text, "t.toml").unwrap_err().to_string();
    for part in [
        "`gateway.api_token` and `gateway.api_token_file` are both set, expected one of them",
        &format!("`s3.secret_key_file`: `{}` is empty", empty.display()),
        "`worker.token_file`: `/nowhere/token` cannot be read: No such file",
    ] {
        assert!(message.contains(part), "missing: {part}\n{message}");
    }
    assert!(!message.contains("t0p"), "{message}");
}

#[test]
fn the_files_of_tls_between_host_and_workers_go_together() {
    let text = "[worker]\ncert_file = \"/c\"\nkey_file = \"/k\"\nca_file = \"/a\"\nserver_name = \"w\"\n";
    let tls = Config::parse(text, "t.toml").unwrap().worker.tls.unwrap();
    assert_eq!(tls.identity.key, Path::new("/k"));
    assert_eq!(
        (tls.authorities.as_path(), tls.server_name.as_deref()),
        (Path::new("/a"), Some("w"))
    );
    let message = Config::parse("[worker]\nkey_file = \"/k\"\n", "t.toml").unwrap_err();
    assert_eq!(
        message.to_string(),
        "t.toml: `worker.cert_file` is missing: `worker.key_file` is set\n\
         t.toml: `worker.ca_file` is missing: `worker.key_file` is set"
    );
    let message = Config::parse("[worker]\nserver_name = \"w\"\n", "t.toml").unwrap_err();
    assert_eq!(
        message.to_string(),
        "t.toml: `worker.server_name` is set, and `worker.ca_file` is missing"
    );
}

#[test]
fn models_are_run_as_their_tables_say() {
    let parse = |text: &str| Config::parse(text, "t.toml");
    let text = "[inference.models.a]\nmax_queue_delay = \"1ms\"\n\
        [inference.models.b]\ninstance_group = { count = 2, kind = \"KIND_GPU\" }\n\
        [inference.models.c]\nmax_batch_size = 8\ninstance_group = {}\npadding = { tokens = 0, labels = -100 }\n\
        [worker]\nexecution_providers = [\"tensorrt\", \"cpu\"]\n";
    let config = parse(text).unwrap();
    assert_eq!(config.worker.execution_providers, ["tensorrt", "cpu"]);
    let models = config.inference.models;
    let rows = |name: &str| models[name].batching.map(|batching| batching.max_batch_size);
    let group = |name: &str| models[name].instances.map(|group| (group.count, group.kind));
    assert_eq!((rows("a"), group("a")), (Some(32), None));
    assert_eq!((rows("b"), group("b")), (None, Some((2, "KIND_GPU"))));
    assert_eq!((rows("c"), group("c")), (Some(8), Some((1, "KIND_AUTO"))));
    let padding = [("labels".to_owned(), -100), ("tokens".to_owned(), 0)];
    assert_eq!(models["c"].padding, padding.into());

    let text = "[inference.models.a]\ninstance_group = { count = 65, kind = \"GPU\", gpus = 1 }\n\
        [worker]\nexecution_providers = [\"tpu\"]\n";
    let message = parse(text).unwrap_err().to_string();
    for part in [
        "`inference.models.a.instance_group.count` is `65`, expected a number from 1 to 64",
        "`inference.models.a.instance_group.kind` is `\"GPU\"`, expected `\"KIND_AUTO\"` or `\"KIND_CPU\"` or",
        "`inference.models.a.instance_group.gpus` is not known, allowed are",
        "`worker.execution_providers` is `[\"tpu\"]`, expected a list of `\"cpu\"`, `\"cuda\"`, `\"tensorrt\"`",
    ] {
        assert!(message.contains(part), "missing: {part}\n{message}");
    }
    assert_eq!(message.lines().count(), 4, "{message}");
}

#[test]
fn a_file_that_is_no_toml_names_the_line() {
    let message = Config::parse("drain = \"1s\"\n[gateway\n", "t.toml")
        .unwrap_err()
        .to_string();
    assert!(message.starts_with("t.toml: line 2:"), "{message}");
}

#[test]
fn the_documentation_shows_the_defaults() {
    let page = include_str!("../../../docs/configuration.md");
    let block = page
        .split("```toml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    assert_eq!(
        Config::parse(block, "docs/configuration.md").unwrap(),
        Config::default()
    );
    let shown: toml::Table = block.parse().unwrap();
    let keys: usize = shown
        .values()
        .map(|value| value.as_table().map_or(1, toml::Table::len))
        .sum();
    let without_default = page.lines().filter(|line| line.starts_with("| `")).count();
    let mut reader = Reader::new(toml::Table::new());
    read(&mut reader);
    assert_eq!(keys + without_default, reader.asked(), "a key is not told of");
}
