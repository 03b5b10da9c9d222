//! A plugin that publishes back.

use crate::table::Table;

pub(crate) fn measure(_rounds: usize, _table: &mut Table) -> anyhow::Result<()> {
    Ok(())
}
