//! Objects through the S3 endpoint: their checksums, their size, and uploads in parts that end once.

use anyhow::{Context, Result, ensure};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::operation::complete_multipart_upload::CompleteMultipartUploadOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart,
};
use tidegate_harness::{Bucket, Host, Options};
use tidegate_it::Scene;

const BUCKET: &str = "data";
const PART: usize = 5 << 20;

/// What an error of the S3 endpoint says: its code and its message.
fn told<T: std::fmt::Debug, E: ProvideErrorMetadata>(answer: Result<T, E>) -> Result<(String, String)> {
    let error = answer.err().context("the request succeeded")?;
    let (code, message) = (error.code(), error.message());
    Ok((
        code.unwrap_or_default().into(),
        message.unwrap_or_default().into(),
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn checksums_are_verified_kept_and_told() -> Result<()> {
    let host = Host::start(Options::default()).await?;
    let bucket = host.bucket(BUCKET);
    let (client, body) = (&bucket.client, || ByteStream::from_static(b"the tide"));
    let put = |key: &str| client.put_object().bucket(BUCKET).key(key).body(body());
    let wrong = "1B2M2Y8AsgTpgAmY7PhCfg1B2M2Y8AsgTpgAmY7PhCc=";
    let refused = put("wrong").checksum_sha256(wrong).send().await;
    let (code, message) = told(refused.map_err(aws_sdk_s3::Error::from))?;
    assert_eq!(code, "BadDigest");
    assert!(message.contains("sha256") && message.contains(wrong), "{message}");
    assert!(bucket.list("wrong").await?.is_empty());

    for algorithm in ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"] {
        let wanted = ChecksumAlgorithm::from(algorithm);
        let sent = put(algorithm).checksum_algorithm(wanted).send().await?;
        let head = client.head_object().bucket(BUCKET).key(algorithm);
        let silent = head.clone().send().await?;
        let told = head.checksum_mode(ChecksumMode::Enabled).send().await?;
        let of = |name: &str| match name {
            "CRC32" => (
                sent.checksum_crc32(),
                told.checksum_crc32(),
                silent.checksum_crc32(),
            ),
            "CRC32C" => (
                sent.checksum_crc32_c(),
                told.checksum_crc32_c(),
                silent.checksum_crc32_c(),
            ),
            "CRC64NVME" => (
                sent.checksum_crc64_nvme(),
                told.checksum_crc64_nvme(),
                silent.checksum_crc64_nvme(),
            ),
            "SHA1" => (sent.checksum_sha1(), told.checksum_sha1(), silent.checksum_sha1()),
            _ => (
                sent.checksum_sha256(),
                told.checksum_sha256(),
                silent.checksum_sha256(),
            ),
        };
        let (sent_sum, told_sum, silent_sum) = of(algorithm);
        assert!(sent_sum.is_some(), "{algorithm}");
        assert_eq!((told_sum, silent_sum), (sent_sum, None), "{algorithm}");
        assert_eq!(told.checksum_type(), Some(&ChecksumType::FullObject));
        // The client compares what it reads with what it is told.
        assert_eq!(bucket.get(algorithm).await?, b"the tide");
    }
    Ok(())
}

/// An upload in parts, all but its completion.
async fn upload(
    bucket: &Bucket,
    key: &str,
    algorithm: Option<(&str, ChecksumType)>,
    sizes: &[usize],
) -> Result<(String, CompletedMultipartUpload)> {
    let mut begin = bucket.client.create_multipart_upload().bucket(BUCKET).key(key);
    let (algorithm, kind) = algorithm.unzip();
    if let Some((algorithm, kind)) = algorithm.zip(kind) {
        begin = begin.checksum_algorithm(algorithm.into()).checksum_type(kind);
    }
    let begun = begin.send().await?;
    let id = begun.upload_id().context("no upload id")?.to_owned();
    let mut parts = CompletedMultipartUpload::builder();
    for (number, size) in (1..).zip(sizes) {
        let sent = bucket
            .client
            .upload_part()
            .bucket(BUCKET)
            .key(key)
            .upload_id(&id)
            .part_number(number)
            .set_checksum_algorithm(algorithm.map(Into::into))
            .body(ByteStream::from(vec![number as u8; *size]))
            .send()
            .await?;
        let part = CompletedPart::builder()
            .part_number(number)
            .set_e_tag(sent.e_tag().map(str::to_owned))
            .set_checksum_crc32(sent.checksum_crc32().map(str::to_owned))
            .set_checksum_crc64_nvme(sent.checksum_crc64_nvme().map(str::to_owned));
        parts = parts.parts(part.build());
    }
    Ok((id, parts.build()))
}

async fn complete(
    bucket: &Bucket,
    key: &str,
    id: &str,
    parts: CompletedMultipartUpload,
) -> Result<CompleteMultipartUploadOutput, aws_sdk_s3::Error> {
    let completing = bucket
        .client
        .complete_multipart_upload()
        .bucket(BUCKET)
        .key(key)
        .upload_id(id)
        .multipart_upload(parts);
    Ok(completing.send().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_in_parts_has_a_checksum_of_them_or_of_all_bytes() -> Result<()> {
    let host = Host::start(Options::default()).await?;
    let bucket = host.bucket(BUCKET);
    let sizes = [PART, 1000];
    let whole = [vec![1; PART], vec![2; 1000]].concat();

    let (id, parts) = upload(
        &bucket,
        "full",
        Some(("CRC64NVME", ChecksumType::FullObject)),
        &sizes,
    )
    .await?;
    let full = complete(&bucket, "full", &id, parts).await?;
    assert_eq!(full.checksum_type(), Some(&ChecksumType::FullObject));
    let single = bucket
        .client
        .put_object()
        .bucket(BUCKET)
        .key("single")
        .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
        .body(ByteStream::from(whole.clone()))
        .send()
        .await?;
    assert!(full.checksum_crc64_nvme().is_some());
    assert_eq!(full.checksum_crc64_nvme(), single.checksum_crc64_nvme());
    assert_eq!(bucket.get("full").await?, whole);

    let (id, parts) = upload(&bucket, "parts", Some(("CRC32", ChecksumType::Composite)), &sizes).await?;
    let mut bad = parts.clone();
    bad.parts.as_mut().context("no parts")?[0].checksum_crc32 = Some("AAAAAA==".into());
    let (code, message) = told(complete(&bucket, "parts", &id, bad).await)?;
    assert_eq!(code, "InvalidPart", "{message}");
    let composite = complete(&bucket, "parts", &id, parts).await?;
    let sum = composite.checksum_crc32().unwrap_or_default().to_owned();
    assert!(sum.ends_with("-2"), "{sum}");
    let head = bucket.client.head_object().bucket(BUCKET).key("parts");
    let head = head.checksum_mode(ChecksumMode::Enabled).send().await?;
    assert_eq!(
        (head.checksum_crc32(), head.checksum_type()),
        (Some(sum.as_str()), Some(&ChecksumType::Composite))
    );
    assert_eq!(bucket.get("parts").await?, whole);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_completed_by_two_is_completed_once() -> Result<()> {
    let host = Host::start(Options::default()).await?;
    let bucket = host.bucket(BUCKET);
    for round in 0..5 {
        let key = format!("twice-{round}");
        let (id, parts) = upload(&bucket, &key, None, &[PART, PART]).await?;
        let (one, other) = tokio::join!(
            complete(&bucket, &key, &id, parts.clone()),
            complete(&bucket, &key, &id, parts)
        );
        let (completed, refused) = if one.is_ok() { (one, other) } else { (other, one) };
        completed.context("neither completed it")?;
        let (code, message) = told(refused)?;
        assert_eq!(code, "NoSuchUpload", "{message}");
        assert_eq!(bucket.get(&key).await?.len(), 2 * PART);
    }
    let left = bucket
        .client
        .list_multipart_uploads()
        .bucket(BUCKET)
        .send()
        .await?;
    assert!(left.uploads().is_empty(), "{left:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_over_the_size_that_is_allowed_is_refused_and_the_host_stays_up() -> Result<()> {
    let scene = Scene::new()?;
    let config = scene.file("config.toml", "[gateway]\nmax_object = \"8MiB\"\n")?;
    let options = Options {
        env: vec![("TIDEGATE_CONFIG".into(), config.display().to_string())],
        ..Options::default()
    };
    let mut host = Host::start(options).await?;
    let bucket = host.bucket(BUCKET);
    let put = |key: &str, size: usize| {
        let body = ByteStream::from(vec![7; size]);
        bucket
            .client
            .put_object()
            .bucket(BUCKET)
            .key(key)
            .body(body)
            .send()
    };
    put("as-large-as-allowed", 8 << 20).await?;
    let (code, message) = told(put("too-large", 9 << 20).await.map_err(aws_sdk_s3::Error::from))?;
    assert_eq!(code, "EntityTooLarge", "{message}");
    assert_eq!(
        message,
        format!(
            "`data/too-large` has {} bytes, `gateway.max_object` allows {}",
            9 << 20,
            8 << 20
        )
    );
    let (id, parts) = upload(&bucket, "in-parts", None, &[PART, PART]).await?;
    let (code, message) = told(complete(&bucket, "in-parts", &id, parts).await)?;
    assert_eq!(code, "EntityTooLarge", "{message}");
    assert!(
        message.contains("`data/in-parts` has 10485760 bytes"),
        "{message}"
    );
    ensure!(host.is_running(), "the host ended: {}", host.log_tail());
    assert_eq!(bucket.list("").await?, ["as-large-as-allowed"]);
    Ok(())
}
