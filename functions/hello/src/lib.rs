//! `hello`: when a text is uploaded, counts its words, remembers the count and tells the world.
//!
//! The four lines that matter: [`tidegate_sdk::function!`] exports `handle`, `event.json()` reads the event,
//! `state::put` stages a value and `events::emit` an event. All of it is committed when `handle` returns `Ok`,
//! or nothing is: a run that fails or is killed is tried again and leaves no trace.

use tidegate_sdk::prelude::*;

tidegate_sdk::function!(handle);

/// What is kept for each text, and the data of `TextCounted`.
#[derive(Serialize)]
struct Counted {
    name: String,
    greeting: String,
    words: usize,
}

async fn handle(event: Event) -> Result<(), Failure> {
    let created: ObjectCreated = event.json()?;
    let mut text = objects::open(&created.bucket, &created.key).await?.stream();
    let mut counter = Counter::default();
    while let Some(bytes) = text.next().await? {
        counter.add(&bytes);
        log::progress(text.position(), created.size, "bytes");
    }
    let name = name_of(&created.key)
        .or_reject_with("the key names no text")?
        .to_owned();
    let greeting = format!("{}, {name}!", config::parse("greeting", "Hello".to_owned())?);
    let counted = Counted {
        name,
        greeting,
        words: counter.words,
    };
    state::put("hello", &counted.name, &counted)?;
    events::emit("TextCounted", &counted)?;
    log::info!("`{}` has {} words", counted.name, counted.words);
    Ok(())
}

/// `hello/world.txt` is the text of `world`.
fn name_of(key: &str) -> Option<&str> {
    let name = key.rsplit('/').next()?.strip_suffix(".txt")?;
    (!name.is_empty()).then_some(name)
}

/// Counts words in bytes that come a piece at a time.
#[derive(Default)]
struct Counter {
    words: usize,
    within: bool,
}

impl Counter {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let letter = !byte.is_ascii_whitespace();
            self.words += usize::from(letter && !self.within);
            self.within = letter;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_cut_by_a_piece_counts_once() {
        let mut counter = Counter::default();
        [b" a tide".as_slice(), b"gate  ", b"opens\n"]
            .iter()
            .for_each(|bytes| counter.add(bytes));
        assert_eq!(counter.words, 3);
    }

    #[test]
    fn a_text_is_named_by_its_key() {
        assert_eq!(name_of("hello/world.txt"), Some("world"));
        assert_eq!((name_of("hello/.txt"), name_of("hello/x.csv")), (None, None));
    }
}
