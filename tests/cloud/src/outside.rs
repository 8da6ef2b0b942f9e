//! Buckets and queues of others, in moto: what is written there is told to a queue.

use anyhow::{Context, Result};
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Event, NotificationConfiguration, QueueConfiguration};
use aws_sdk_sqs::types::QueueAttributeName;

/// S3 and SQS of others.
pub struct Outside {
    /// Where they are.
    pub endpoint: String,
    s3: aws_sdk_s3::Client,
    sqs: aws_sdk_sqs::Client,
}

impl Outside {
    pub(crate) fn new(endpoint: &str) -> Self {
        let http = aws_smithy_http_client::Builder::new().build_http();
        let credentials = || Credentials::new("outside", "outside", None, None, "tests");
        let s3 = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http.clone())
            .endpoint_url(endpoint)
            .region(Region::from_static("us-east-1"))
            .credentials_provider(credentials())
            .force_path_style(true);
        let sqs = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .endpoint_url(endpoint)
            .region(Region::from_static("us-east-1"))
            .credentials_provider(credentials());
        Self {
            endpoint: endpoint.to_owned(),
            s3: aws_sdk_s3::Client::from_conf(s3.build()),
            sqs: aws_sdk_sqs::Client::from_conf(sqs.build()),
        }
    }

    /// Makes a queue; messages that are not taken come again after so many seconds.
    pub async fn queue(&self, name: &str, seconds: u32) -> Result<String> {
        let make = self.sqs.create_queue().queue_name(name);
        let make = make.attributes(QueueAttributeName::VisibilityTimeout, seconds.to_string());
        let made = make
            .send()
            .await
            .with_context(|| format!("cannot make the queue `{name}`"))?;
        made.queue_url.context("a queue without an address")
    }

    /// Makes a bucket, and a queue that is told of what is written and removed in it.
    pub async fn bucket_with_notices(&self, bucket: &str, queue: &str) -> Result<()> {
        self.s3
            .create_bucket()
            .bucket(bucket)
            .send()
            .await
            .context("cannot make a bucket")?;
        let url = self.queue(queue, 2).await?;
        let asked = self.sqs.get_queue_attributes().queue_url(url);
        let told = asked.attribute_names(QueueAttributeName::QueueArn).send().await?;
        let arn = told
            .attributes()
            .and_then(|all| all.get(&QueueAttributeName::QueueArn));
        let tell = QueueConfiguration::builder()
            .queue_arn(arn.context("a queue without a name")?)
            .events(Event::from("s3:ObjectCreated:*"))
            .events(Event::from("s3:ObjectRemoved:*"))
            .build()?;
        let rule = NotificationConfiguration::builder()
            .queue_configurations(tell)
            .build();
        let set = self.s3.put_bucket_notification_configuration().bucket(bucket);
        let set = set.notification_configuration(rule).send().await;
        set.map(drop).context("cannot have notices sent")
    }

    /// The names of queues that begin like this.
    pub async fn queues(&self, prefix: &str) -> Result<Vec<String>> {
        let listed = self.sqs.list_queues().queue_name_prefix(prefix).send().await;
        let urls = listed
            .context("cannot list queues")?
            .queue_urls
            .unwrap_or_default();
        let name = |url: &String| url.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(urls.iter().map(name).collect())
    }

    /// Writes an object.
    pub async fn put(&self, bucket: &str, key: &str, text: &str) -> Result<()> {
        let put = self.s3.put_object().bucket(bucket).key(key);
        let body = ByteStream::from(text.as_bytes().to_vec());
        put.body(body)
            .send()
            .await
            .map(drop)
            .context("cannot write an object")
    }

    /// Removes an object.
    pub async fn remove(&self, bucket: &str, key: &str) -> Result<()> {
        let remove = self.s3.delete_object().bucket(bucket).key(key);
        remove.send().await.map(drop).context("cannot remove an object")
    }

    /// Sends a message.
    pub async fn send(&self, queue: &str, text: &str) -> Result<()> {
        let url = self.sqs.get_queue_url().queue_name(queue).send().await?.queue_url;
        let send = self.sqs.send_message().set_queue_url(url).message_body(text);
        send.send().await.map(drop).context("cannot send a message")
    }

    /// Takes up to ten messages, each with its id, its receipt and what it says; waits up to a second.
    pub async fn receive(&self, queue: &str) -> Result<Vec<(String, String, String)>> {
        let url = self.sqs.get_queue_url().queue_name(queue).send().await?.queue_url;
        let receive = self.sqs.receive_message().set_queue_url(url);
        let received = receive
            .max_number_of_messages(10)
            .wait_time_seconds(1)
            .send()
            .await?;
        let messages = received.messages.unwrap_or_default().into_iter();
        let parts = |message: aws_sdk_sqs::types::Message| {
            (
                message.message_id.unwrap_or_default(),
                message.receipt_handle.unwrap_or_default(),
                message.body.unwrap_or_default(),
            )
        };
        Ok(messages.map(parts).collect())
    }

    /// Removes a message.
    pub async fn delete(&self, queue: &str, receipt: &str) -> Result<()> {
        let url = self.sqs.get_queue_url().queue_name(queue).send().await?.queue_url;
        let delete = self
            .sqs
            .delete_message()
            .set_queue_url(url)
            .receipt_handle(receipt);
        delete.send().await.map(drop).context("cannot remove a message")
    }
}
