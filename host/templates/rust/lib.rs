//! Greets whoever an event names, and counts the greetings.

use tidegate_sdk::prelude::*;

tidegate_sdk::function!(handle);

/// The table of greetings.
const TABLE: &str = "{{name}}";

#[derive(Deserialize)]
struct Greet {
    name: String,
}

async fn handle(event: Event) -> Result<(), Failure> {
    let Greet { name } = event.json()?;
    let before = state::get::<u64>(TABLE, &name).await?;
    let number = before.map_or(1, |before| before.value + 1);
    state::put(TABLE, &name, &number)?;
    log::info!("{}", greeting(&name, number));
    Ok(())
}

fn greeting(name: &str, number: u64) -> String {
    format!("hello {name}, number {number}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_greeting_names_whom_it_greets_and_counts() {
        assert_eq!(super::greeting("ada", 2), "hello ada, number 2");
    }
}
