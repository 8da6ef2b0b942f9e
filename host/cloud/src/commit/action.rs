//! One action of a transaction, and what it means when it is refused.

use aws_sdk_dynamodb::types::{
    Delete, Put, ReturnValuesOnConditionCheckFailure as Found, TransactWriteItem, Update,
};
use tidegate_runtime::store::{Condition, StoreError};

use crate::items::Item;
use crate::keys::{Key, Place};
use crate::store::Core;

/// An action.
#[derive(Clone)]
pub(crate) struct Action {
    pub(crate) item: TransactWriteItem,
    pub(crate) meaning: Meaning,
    /// Bytes that it moves, roughly.
    pub(crate) size: usize,
}

/// What stands behind a condition.
#[derive(Debug, Clone)]
pub(crate) enum Meaning {
    /// Nothing: there is no condition.
    Free,
    /// A delivery is held.
    Receipt(Place),
    /// A key is as the caller demands, and its version is before the unit's.
    State {
        table: String,
        key: String,
        condition: Condition,
    },
    /// A key counts.
    Count { table: String, key: String },
    /// An object is as it was read.
    Object,
    /// Bytes are staged.
    Staged(String),
    /// A count is zero.
    Ended,
    /// The row is as the unit's own earlier step left it.
    Step,
}

/// A condition, with the values of all expressions.
#[derive(Default)]
pub(crate) struct When {
    pub(crate) expression: Option<&'static str>,
    pub(crate) values: Option<Item>,
}

impl When {
    /// A condition that compares with something.
    pub(crate) fn holds(expression: &'static str, values: Item) -> Self {
        Self {
            expression: Some(expression),
            values: Some(values).filter(|values| !values.is_empty()),
        }
    }

    /// The row is there.
    pub(crate) fn there() -> Self {
        Self::holds("attribute_exists(pk)", Item::new())
    }

    /// The row is not there.
    pub(crate) fn absent() -> Self {
        Self::holds("attribute_not_exists(pk)", Item::new())
    }
}

impl Core {
    /// Writes a row.
    pub(crate) fn put(
        &self,
        row: Item,
        when: When,
        meaning: Meaning,
        size: usize,
    ) -> Result<Action, StoreError> {
        let put = Put::builder()
            .table_name(&self.settings.table)
            .set_item(Some(row))
            .set_condition_expression(when.expression.map(str::to_owned))
            .set_expression_attribute_values(when.values)
            .return_values_on_condition_check_failure(Found::AllOld);
        let put = put.build().map_err(StoreError::new)?;
        Ok(Action {
            item: TransactWriteItem::builder().put(put).build(),
            meaning,
            size,
        })
    }

    /// Deletes a row.
    pub(crate) fn delete(&self, key: &Key, when: When, meaning: Meaning) -> Result<Action, StoreError> {
        let delete = Delete::builder()
            .table_name(&self.settings.table)
            .set_key(Some(key.item()))
            .set_condition_expression(when.expression.map(str::to_owned))
            .set_expression_attribute_values(when.values)
            .return_values_on_condition_check_failure(Found::AllOld);
        let delete = delete.build().map_err(StoreError::new)?;
        Ok(Action {
            item: TransactWriteItem::builder().delete(delete).build(),
            meaning,
            size: 0,
        })
    }

    /// Changes attributes of a row.
    pub(crate) fn update(
        &self,
        key: &Key,
        expression: &str,
        when: When,
        meaning: Meaning,
    ) -> Result<Action, StoreError> {
        let update = Update::builder()
            .table_name(&self.settings.table)
            .set_key(Some(key.item()))
            .update_expression(expression)
            .set_condition_expression(when.expression.map(str::to_owned))
            .set_expression_attribute_values(when.values)
            .return_values_on_condition_check_failure(Found::AllOld);
        let update = update.build().map_err(StoreError::new)?;
        Ok(Action {
            item: TransactWriteItem::builder().update(update).build(),
            meaning,
            size: 0,
        })
    }
}
