//! Answers of a server, in RESP 2, bounded.

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

/// Bytes of one answer at most.
const BYTES: usize = 16 << 20;
/// Items of one answer at most.
const ITEMS: usize = 100_000;
/// Bytes of a line at most.
const LINE: u64 = 64 << 10;

/// A part of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    Nil,
    Status(String),
    Integer(i64),
    Bytes(Vec<u8>),
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// The server refuses the command.
    Said(String),
    /// The connection is of no more use.
    Broken(String),
}

impl From<std::io::Error> for Wrong {
    fn from(error: std::io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// Reads one answer; arrays, also those in arrays, are flat.
pub(super) async fn read(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<Vec<Item>, Wrong> {
    let (mut items, mut left, mut bytes, mut said) = (Vec::new(), 1_usize, 0_usize, None);
    while left > 0 {
        left -= 1;
        let line = line(stream).await?;
        let (kind, rest) = line.split_at_checked(1).ok_or_else(|| odd(&line))?;
        bytes += line.len();
        match kind {
            "+" => items.push(Item::Status(rest.to_owned())),
            // What comes after an error within an array is read, so that the next answer begins where it should.
            "-" => said = Some(rest.to_owned()),
            ":" => items.push(Item::Integer(rest.parse().map_err(|_| odd(&line))?)),
            "$" | "*" if rest == "-1" => items.push(Item::Nil),
            "$" => {
                let length: usize = rest.parse().map_err(|_| odd(&line))?;
                bytes = bytes.saturating_add(length);
                within(bytes, items.len() + left)?;
                items.push(Item::Bytes(bulk(stream, length).await?));
            }
            "*" => left = left.saturating_add(rest.parse().map_err(|_| odd(&line))?),
            _ => return Err(odd(&line)),
        }
        within(bytes, items.len().saturating_add(left))?;
    }
    said.map_or(Ok(items), |text| Err(Wrong::Said(text)))
}

async fn bulk(stream: &mut (impl AsyncBufRead + Unpin), length: usize) -> Result<Vec<u8>, Wrong> {
    let mut bytes = vec![0; length + 2];
    stream.read_exact(&mut bytes).await?;
    bytes.truncate(length);
    Ok(bytes)
}

async fn line(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<String, Wrong> {
    let mut line = Vec::new();
    stream.take(LINE).read_until(b'\n', &mut line).await?;
    let text = line
        .strip_suffix(b"\r\n")
        .and_then(|line| std::str::from_utf8(line).ok());
    text.map(str::to_owned)
        .ok_or_else(|| odd(&String::from_utf8_lossy(&line)))
}

fn within(bytes: usize, items: usize) -> Result<(), Wrong> {
    if bytes > BYTES || items > ITEMS {
        return Err(Wrong::Broken(format!(
            "found an answer of more than {BYTES} bytes or {ITEMS} items, which is more than is taken"
        )));
    }
    Ok(())
}

fn odd(line: &str) -> Wrong {
    let start: String = line.chars().take(40).collect();
    Wrong::Broken(format!(
        "found `{}`, expected an answer of Redis",
        start.escape_debug()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(mut bytes: &[u8]) -> Result<Vec<Item>, Wrong> {
        read(&mut bytes).await
    }

    #[tokio::test]
    async fn every_kind_of_answer_is_read_and_arrays_are_flat() {
        let items = answer(b"*3\r\n+OK\r\n*2\r\n:7\r\n$-1\r\n$3\r\na\r\n\r\n")
            .await
            .unwrap();
        let bytes = Item::Bytes(b"a\r\n".to_vec());
        assert_eq!(
            items,
            [Item::Status("OK".into()), Item::Integer(7), Item::Nil, bytes]
        );
        assert_eq!(answer(b"*0\r\n").await.unwrap(), []);
        assert_eq!(
            answer(b"-ERR no\r\n").await.unwrap_err(),
            Wrong::Said("ERR no".into())
        );
    }

    #[tokio::test]
    async fn an_answer_that_is_none_too_long_or_cut_breaks_the_connection() {
        let huge = format!("${}\r\n", BYTES + 1);
        let endless = format!("*{}\r\n", usize::MAX);
        for bytes in [
            "hello\r\n",
            "\r\n",
            "",
            "$5\r\nab",
            ":x\r\n",
            "*-7\r\n",
            &huge,
            &endless,
        ] {
            let wrong = answer(bytes.as_bytes()).await.unwrap_err();
            assert!(matches!(wrong, Wrong::Broken(_)), "{bytes:?}: {wrong:?}");
        }
    }
}
