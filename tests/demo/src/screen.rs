//! One line a step: with moving bars on a terminal, as plain lines anywhere else.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressStyle};

/// How often a plain log hears of progress.
const PLAIN_PAUSE: Duration = Duration::from_secs(5);
const SPINNER: &str = "  {spinner:.cyan} {prefix:<11} {wide_msg} {elapsed:>7}";
const BAR: &str =
    "  {spinner:.cyan} {prefix:<11} {bar:28.cyan/dim} {human_pos}/{human_len} {msg} {elapsed:>7}";

/// Where steps are shown.
#[derive(Debug)]
pub struct Screen {
    bars: Option<MultiProgress>,
}

impl Screen {
    /// The standard output, as what it is.
    pub fn new() -> Self {
        Self {
            bars: std::io::stdout().is_terminal().then(MultiProgress::new),
        }
    }

    /// Prints lines.
    pub fn say(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| println!("{text}")),
            None => println!("{text}"),
        }
    }

    /// Text in bold, where that can be.
    pub fn bold(&self, text: &str) -> String {
        if self.bars.is_some() {
            format!("\x1b[1m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// Begins a step.
    pub fn step(&self, name: &str) -> Step<'_> {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars
                .add(ProgressBar::new_spinner())
                .with_style(style(SPINNER))
                .with_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Step {
            screen: self,
            name: name.to_owned(),
            bar,
            told: Mutex::new(Instant::now()),
        }
    }

    fn line(&self, mark: &str, colour: u8, name: &str, text: &str, took: Option<Duration>) {
        let took = took.map(human).unwrap_or_default();
        let (text, room) = (text.trim(), 76_usize);
        let gap = " ".repeat(room.saturating_sub(text.chars().count()).max(1));
        if self.bars.is_some() {
            self.say(&format!(
                "  \x1b[{colour}m{mark}\x1b[0m {name:<11} {text}{gap}\x1b[2m{took:>9}\x1b[0m"
            ));
        } else {
            self.say(format!("  {mark} {name:<11} {text}{gap}{took:>9}").trim_end());
        }
    }
}

/// A step that is being shown.
#[derive(Debug)]
pub struct Step<'s> {
    screen: &'s Screen,
    name: String,
    bar: Option<ProgressBar>,
    told: Mutex<Instant>,
}

impl Step<'_> {
    /// Shows how far it is.
    pub fn progress(&self, done: u64, total: Option<u64>, text: &str) {
        let Some(bar) = &self.bar else {
            return self.plain_progress(done, total, text);
        };
        match total {
            Some(total) => {
                if bar.length() != Some(total) {
                    bar.set_style(style(BAR));
                    bar.set_length(total);
                }
                bar.set_position(done.min(total));
                bar.set_message(text.to_owned());
            }
            None => bar.set_message(format!("{} {text}", HumanCount(done))),
        }
    }

    /// The step ended well.
    pub fn done(self, text: &str, took: Duration) {
        self.clear();
        self.screen.line("✓", 32, &self.name, text, Some(took));
    }

    /// The step failed and will be tried again; it stays on the screen.
    pub fn retry(&self, reason: &str) {
        self.screen.line("↻", 33, &self.name, reason, None);
    }

    /// The step failed for good.
    pub fn failed(self, reason: &str) {
        self.clear();
        self.screen.line("✗", 31, &self.name, reason, None);
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn plain_progress(&self, done: u64, total: Option<u64>, text: &str) {
        let Ok(mut told) = self.told.lock() else { return };
        if told.elapsed() < PLAIN_PAUSE {
            return;
        }
        *told = Instant::now();
        let total = total
            .map(|total| format!(" of {}", HumanCount(total)))
            .unwrap_or_default();
        self.screen.line(
            "…",
            36,
            &self.name,
            &format!("{}{total} {text}", HumanCount(done)),
            None,
        );
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A duration as a person reads it.
pub fn human(took: Duration) -> String {
    let seconds = took.as_secs_f64();
    match seconds {
        _ if seconds < 0.01 => format!("{:.1} ms", seconds * 1e3),
        _ if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        _ if seconds < 60.0 => format!("{seconds:.1} s"),
        _ => format!("{} min {:02} s", took.as_secs() / 60, took.as_secs() % 60),
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants that are tried whenever the demo runs; the default shows the same, plainer.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
