//! One connection to a server: a command, its answer, the next command.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::Fault;
use super::address::Address;
use super::reply::{Item, Wrong, read};

/// How long a server may take to be reached, and to answer a command.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Client {
    stream: BufReader<TcpStream>,
    /// Why no more commands go through: the end of an answer was not seen.
    broken: Option<String>,
}

impl Client {
    /// Connects, and enters with the credentials and the database of the address.
    pub(super) async fn connect(address: &Address, place: SocketAddr) -> Result<Self, Fault> {
        let unreachable = |why: String| Fault::Other(format!("`{address}` cannot be reached: {why}"));
        let stream = tokio::time::timeout(PATIENCE, TcpStream::connect(place)).await;
        let stream = stream.map_err(|_| unreachable(format!("no answer within {PATIENCE:?}")))?;
        let mut client = Self {
            stream: BufReader::new(stream.map_err(|error| unreachable(error.to_string()))?),
            broken: None,
        };
        if !address.credentials.is_empty() {
            let words = address.credentials.iter().map(String::as_bytes);
            let command: Vec<&[u8]> = std::iter::once(&b"AUTH"[..]).chain(words).collect();
            client.ask(&command).await?;
        }
        if address.database != 0 {
            client
                .ask(&[b"SELECT", address.database.to_string().as_bytes()])
                .await?;
        }
        Ok(client)
    }

    /// Sends a command and reads its answer.
    pub(super) async fn ask(&mut self, command: &[&[u8]]) -> Result<Vec<Item>, Fault> {
        if let Some(reason) = &self.broken {
            return Err(Fault::Other(format!("the connection broke before: {reason}")));
        }
        // Until the answer is there; also where the invocation ends while it waits.
        self.broken = Some("its last command was given up".into());
        let asking = async {
            self.stream
                .write_all(&encode(command))
                .await
                .map_err(|error| Wrong::Broken(error.to_string()))?;
            read(&mut self.stream).await
        };
        let answer = tokio::time::timeout(PATIENCE, asking).await;
        match answer.unwrap_or_else(|_| Err(Wrong::Broken(format!("no answer within {PATIENCE:?}")))) {
            Ok(items) => {
                self.broken = None;
                Ok(items)
            }
            Err(Wrong::Said(text)) => {
                self.broken = None;
                let other_type = text.starts_with("WRONGTYPE") || text.contains("not an integer");
                Err(if other_type {
                    Fault::Type
                } else {
                    Fault::Other(text)
                })
            }
            Err(Wrong::Broken(reason)) => {
                self.broken = Some(reason.clone());
                Err(Fault::Other(reason))
            }
        }
    }
}

/// A command as an array of bulk strings.
fn encode(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
