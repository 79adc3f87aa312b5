//! What was deleted on the networks. A table of its own: the deliveries stay as they were published.

use jiff::Timestamp;
use social_core::{
    id::{DeliveryId, UserId},
    store::LogEntry,
};

use crate::{
    backend::{Backend, SqlStore, Transaction},
    value::values,
};

/// Ids in one statement.
const PORTION: usize = 256;

impl<B: Backend> SqlStore<B> {
    pub(crate) async fn deleted(&self, delivery: DeliveryId, entry: &LogEntry) -> sqlx::Result<bool> {
        let mut tx = self.backend.begin().await?;
        let noted = tx.execute(
            "INSERT INTO remote_deletions (delivery_id, user_id, deleted_at) SELECT id, user_id, $2 FROM deliveries WHERE id = $1 \
             ON CONFLICT (delivery_id) DO NOTHING"
                .into(),
            values![delivery.uuid(), entry.at],
        );
        if noted.await? == 0 {
            tx.rollback().await?;
            return Ok(false);
        }
        self.append(&mut tx, delivery, entry).await?;
        tx.commit().await?;
        Ok(true)
    }

    pub(crate) async fn deleted_of(
        &self,
        user: UserId,
        deliveries: &[DeliveryId],
    ) -> sqlx::Result<Vec<(DeliveryId, Timestamp)>> {
        let mut found = Vec::new();
        for portion in deliveries.chunks(PORTION) {
            // A power of two of parameters, so that few statements have to be kept prepared.
            let count = portion.len().next_power_of_two();
            let places: Vec<_> = (2..count + 2).map(|place| format!("${place}")).collect();
            let sql = format!(
                "SELECT delivery_id, deleted_at FROM remote_deletions WHERE user_id = $1 AND delivery_id IN ({})",
                places.join(", ")
            );
            let ids = portion.iter().cycle().take(count).map(|id| id.uuid().into());
            let values = values![user.uuid()].into_iter().chain(ids).collect();
            found.extend(self.all(sql, values, |row| Ok((DeliveryId::from_uuid(row.id()?), row.at()?))).await?);
        }
        Ok(found)
    }
}
