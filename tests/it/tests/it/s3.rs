//! The S3 endpoint, through the AWS SDK.

use anyhow::{Context, Result};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use tidegate_harness::{Bucket, Host, Options};

const BUCKET: &str = "scratch";
const PART: usize = 5 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_client_reads_back_what_it_wrote() -> Result<()> {
    let host = Host::start(Options::default()).await?;
    let bucket = host.bucket(BUCKET);
    make_bucket(&bucket).await?;
    write_read_list_delete(&bucket).await?;
    a_range_is_a_range(&bucket).await?;
    a_large_object_goes_up_in_parts(&bucket).await?;
    what_is_not_there_is_said_so(&bucket).await?;
    the_gateway_sees_the_same_objects(&host, &bucket).await
}

async fn make_bucket(bucket: &Bucket) -> Result<()> {
    bucket
        .client
        .create_bucket()
        .bucket(BUCKET)
        .send()
        .await
        .context("cannot make a bucket")?;
    let buckets = bucket
        .client
        .list_buckets()
        .send()
        .await
        .context("cannot list buckets")?;
    assert!(
        buckets.buckets().iter().any(|found| found.name() == Some(BUCKET)),
        "{buckets:?}"
    );
    Ok(())
}

async fn write_read_list_delete(bucket: &Bucket) -> Result<()> {
    let keys = ["a/1.txt", "a/2 with space.txt", "b/ünïcode?&+.txt"];
    for key in keys {
        bucket.put(key, format!("body of {key}")).await?;
    }
    for key in keys {
        assert_eq!(bucket.get(key).await?, format!("body of {key}").into_bytes());
    }
    assert_eq!(bucket.list("").await?, keys);
    assert_eq!(bucket.list("a/").await?, keys[..2]);
    bucket
        .client
        .delete_object()
        .bucket(BUCKET)
        .key(keys[0])
        .send()
        .await
        .context("cannot delete")?;
    assert_eq!(bucket.list("a/").await?, keys[1..2]);
    Ok(())
}

async fn a_range_is_a_range(bucket: &Bucket) -> Result<()> {
    bucket.put("range.bin", (0..=255).collect::<Vec<u8>>()).await?;
    let head = bucket
        .client
        .head_object()
        .bucket(BUCKET)
        .key("range.bin")
        .send()
        .await?;
    assert_eq!(head.content_length(), Some(256));
    let part = bucket
        .client
        .get_object()
        .bucket(BUCKET)
        .key("range.bin")
        .range("bytes=10-19")
        .send()
        .await?;
    assert_eq!(part.body.collect().await?.to_vec(), (10..20).collect::<Vec<u8>>());
    Ok(())
}

async fn a_large_object_goes_up_in_parts(bucket: &Bucket) -> Result<()> {
    let (client, key) = (&bucket.client, "large.bin");
    let begun = client
        .create_multipart_upload()
        .bucket(BUCKET)
        .key(key)
        .send()
        .await?;
    let upload = begun.upload_id().context("no upload id")?;
    let mut parts = Vec::new();
    for (number, size) in [(1, PART), (2, PART), (3, 1000)] {
        let body = ByteStream::from(vec![number as u8; size]);
        let sent = client
            .upload_part()
            .bucket(BUCKET)
            .key(key)
            .upload_id(upload)
            .part_number(number)
            .body(body)
            .send();
        let tag = sent.await?.e_tag().unwrap_or_default().to_owned();
        parts.push(CompletedPart::builder().part_number(number).e_tag(tag).build());
    }
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let completed = client
        .complete_multipart_upload()
        .bucket(BUCKET)
        .key(key)
        .upload_id(upload)
        .multipart_upload(parts);
    completed
        .send()
        .await
        .context("cannot complete a multipart upload")?;
    let body = bucket.get(key).await?;
    assert_eq!(body.len(), 2 * PART + 1000);
    assert_eq!((body[0], body[PART], body[2 * PART]), (1, 2, 3));
    Ok(())
}

async fn what_is_not_there_is_said_so(bucket: &Bucket) -> Result<()> {
    let missing = bucket
        .client
        .get_object()
        .bucket(BUCKET)
        .key("no/such/key")
        .send()
        .await;
    let error = missing
        .err()
        .context("a missing object was found")?
        .into_service_error();
    assert!(error.is_no_such_key(), "{error:?}");
    Ok(())
}

async fn the_gateway_sees_the_same_objects(host: &Host, bucket: &Bucket) -> Result<()> {
    host.api
        .put_object(BUCKET, "through/gateway.txt", b"hello".to_vec())
        .await?;
    assert_eq!(bucket.get("through/gateway.txt").await?, b"hello");
    Ok(())
}
