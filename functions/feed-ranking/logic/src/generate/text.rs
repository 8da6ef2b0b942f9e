//! Rows as CSV and JSON Lines.

use std::io::{self, Write};

use crate::table::Interaction;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values.
    Csv,
    /// One JSON object a line.
    JsonLines,
    /// Parquet.
    Parquet,
}

impl Format {
    /// Parses the variable `format`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "csv" => Ok(Self::Csv),
            "jsonl" => Ok(Self::JsonLines),
            "parquet" => Ok(Self::Parquet),
            other => Err(format!(
                "`format` is `{other}`, allowed are `csv`, `jsonl` and `parquet`"
            )),
        }
    }

    /// The suffix of a file.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::JsonLines => "jsonl",
            Self::Parquet => "parquet",
        }
    }

    /// What a file begins with.
    pub(super) fn header(self) -> &'static [u8] {
        match self {
            Self::Csv => b"user_id,item_id,timestamp,category,device,click,like,share,dwell_seconds\n",
            Self::JsonLines | Self::Parquet => b"",
        }
    }

    /// Appends a row; the words in it need no quotes.
    pub(super) fn write(self, row: &Interaction<'_>, to: &mut Vec<u8>) -> io::Result<()> {
        let Interaction {
            user_id,
            item_id,
            timestamp,
            ..
        } = row;
        let (category, device) = (row.category.unwrap_or_default(), row.device.unwrap_or_default());
        let flags = [row.click, row.like, row.share].map(Option::unwrap_or_default);
        let [click, like, share] = flags;
        let dwell = row.dwell_seconds.unwrap_or_default();
        match self {
            Self::JsonLines => writeln!(
                to,
                r#"{{"user_id":{user_id},"item_id":{item_id},"timestamp":{timestamp},"category":"{category}","device":"{device}","click":{click},"like":{like},"share":{share},"dwell_seconds":{dwell}}}"#
            ),
            Self::Csv | Self::Parquet => writeln!(
                to,
                "{user_id},{item_id},{timestamp},{category},{device},{click},{like},{share},{dwell}"
            ),
        }
    }
}
