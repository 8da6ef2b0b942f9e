//! Which column of a file is which field of a table.

use super::{IngestError, Settings};

/// A field of a row; the first ten in the order of [`crate::table::COLUMNS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `user_id`
    UserId,
    /// `item_id`
    ItemId,
    /// `timestamp`
    Timestamp,
    /// `click`
    Click,
    /// `like`
    Like,
    /// `share`
    Share,
    /// `dwell_seconds`
    DwellSeconds,
    /// `rating`
    Rating,
    /// `device`
    Device,
    /// `category`
    Category,
    /// `title`, of an item
    Title,
}

/// Fields of a row.
pub(super) const FIELDS: usize = Field::ALL.len();

impl Field {
    /// All of them, in order.
    pub const ALL: [Self; 11] = [
        Self::UserId,
        Self::ItemId,
        Self::Timestamp,
        Self::Click,
        Self::Like,
        Self::Share,
        Self::DwellSeconds,
        Self::Rating,
        Self::Device,
        Self::Category,
        Self::Title,
    ];

    /// The field's own name.
    pub fn name(self) -> &'static str {
        match self {
            Self::UserId => "user_id",
            Self::ItemId => "item_id",
            Self::Timestamp => "timestamp",
            Self::Click => "click",
            Self::Like => "like",
            Self::Share => "share",
            Self::DwellSeconds => "dwell_seconds",
            Self::Rating => "rating",
            Self::Device => "device",
            Self::Category => "category",
            Self::Title => "title",
        }
    }

    /// The names that a column may have where no variable says otherwise.
    pub fn aliases(self) -> &'static str {
        match self {
            Self::UserId => "user_id,userId",
            Self::ItemId => "item_id,itemId,movieId",
            Self::Timestamp => "timestamp,time,ts",
            Self::Click => "click,clicked",
            Self::Like => "like,liked",
            Self::Share => "share,shared",
            Self::DwellSeconds => "dwell_seconds,dwell_time",
            Self::Rating => "rating",
            Self::Device => "device",
            Self::Category => "category,categories,genres",
            Self::Title => "title",
        }
    }
}

/// For each column of a file the field that it holds.
pub(super) type Mapping = Vec<Option<Field>>;

/// What a file holds, by its columns.
#[derive(Clone, Debug)]
pub(super) enum Table {
    /// Interactions of users with items.
    Interactions(Mapping),
    /// Items.
    Items(Mapping),
}

impl Table {
    /// Recognises a table by the names of its columns.
    pub(super) fn of(columns: &[String], settings: &Settings) -> Result<Self, IngestError> {
        let mapping = map(columns, settings);
        let has = |field| mapping.contains(&Some(field));
        if !has(Field::UserId) && has(Field::ItemId) && (has(Field::Title) || has(Field::Category)) {
            return Ok(Self::Items(mapping));
        }
        for field in [Field::UserId, Field::ItemId, Field::Timestamp] {
            if !has(field) {
                return Err(IngestError::Rejected(missing(field, columns, settings)));
            }
        }
        let rule = settings.click_from.map(|rule| rule.field);
        if has(Field::Click) || rule.is_some_and(has) {
            return Ok(Self::Interactions(mapping));
        }
        let reason = missing(Field::Click, columns, settings);
        Err(IngestError::Rejected(match rule {
            Some(field) => format!(
                "{reason}, or `{}` to derive it from",
                settings.names_of(field).join("`, `")
            ),
            None => reason,
        }))
    }

    pub(super) fn mapping(&self) -> &Mapping {
        match self {
            Self::Interactions(mapping) | Self::Items(mapping) => mapping,
        }
    }
}

/// Where two columns could hold a field, the one that is named first among the field's names does.
fn map(columns: &[String], settings: &Settings) -> Mapping {
    let mut mapping = vec![None; columns.len()];
    for (field, names) in &settings.names {
        let place = names.iter().find_map(|name| {
            columns
                .iter()
                .position(|column| column.trim().eq_ignore_ascii_case(name))
        });
        if let Some(slot) = place.and_then(|place| mapping.get_mut(place)) {
            *slot = Some(*field);
        }
    }
    mapping
}

fn missing(field: Field, columns: &[String], settings: &Settings) -> String {
    let shown: String = columns.join("`, `").chars().take(300).collect();
    let allowed = settings.names_of(field).join("`, `");
    format!(
        "no column for `{}`: found `{shown}`, allowed are `{allowed}`",
        field.name()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(header: &str) -> Result<Table, IngestError> {
        let columns: Vec<_> = header.split(',').map(str::to_owned).collect();
        Table::of(&columns, &Settings::default())
    }

    #[test]
    fn movielens_files_are_recognised_by_their_headers() {
        assert!(matches!(
            table("userId,movieId,rating,timestamp"),
            Ok(Table::Interactions(_))
        ));
        assert!(matches!(table("movieId,title,genres"), Ok(Table::Items(_))));
        for other in ["movieId,imdbId,tmdbId", "userId,movieId,tag,timestamp"] {
            assert!(table(other).unwrap_err().to_string().contains("allowed are"));
        }
    }

    #[test]
    fn a_wrong_header_names_what_was_found_and_what_is_allowed() {
        let error = table("uid,item_id,timestamp,click").unwrap_err().to_string();
        assert!(
            error.contains("`user_id`") && error.contains("`uid`") && error.contains("`userId`"),
            "{error}"
        );
    }

    #[test]
    fn the_preferred_name_wins_where_two_columns_fit() {
        let Ok(Table::Interactions(mapping)) = table("movieId,user_id,ITEM_ID,ts,click") else {
            panic!()
        };
        assert_eq!(mapping[0], None);
        assert_eq!(mapping[2], Some(Field::ItemId));
    }
}
