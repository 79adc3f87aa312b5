//! Users, keys, idempotency records, proofs of master keys, and what was found in media files.

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::{Map, MemoryStore, Set, dump_bytes, dump_debug, page_of, read_cursor, taken, write_cursor};
use crate::{
    draft::StoredMedia,
    error::Error,
    id::{MediaId, UserId},
    store::{AdminStore, ApiKey, Idempotent, MediaStore, Page, PageRequest, User},
};

#[derive(Debug, Default)]
pub(super) struct Admin {
    users: Map<UserId, User>,
    emails: Set<String>,
    keys: Map<Uuid, ApiKey>,
    requests: Map<(UserId, String), Request>,
    canaries: Map<String, Vec<u8>>,
    media: Map<MediaId, (UserId, StoredMedia)>,
    media_since: Map<MediaId, Timestamp>,
}

#[derive(Debug)]
struct Request {
    fingerprint: [u8; 32],
    begun_at: Timestamp,
    answer: Option<(u16, Vec<u8>)>,
}

impl Admin {
    pub(super) fn dump(&self, out: &mut String) {
        self.users.values().for_each(|row| dump_debug(out, row));
        self.media.values().for_each(|row| dump_debug(out, row));
        for key in self.keys.values() {
            dump_debug(out, key);
            dump_bytes(out, "hash", &key.hash);
        }
        for ((user, key), request) in &self.requests {
            dump_debug(out, &(user, key, request.begun_at));
            dump_bytes(out, "fingerprint", &request.fingerprint);
            if let Some((_, body)) = &request.answer {
                dump_bytes(out, "answer", body);
            }
        }
        for (id, sealed) in &self.canaries {
            dump_bytes(out, id, sealed);
        }
    }
}

#[async_trait]
impl AdminStore for MemoryStore {
    async fn insert_user(&self, user: &User) -> Result<bool, Error> {
        let admin = &mut self.state().admin;
        if admin.emails.contains(&user.email) {
            return Ok(false);
        }
        if admin.users.contains_key(&user.id) {
            return Err(taken("users.insert", "a user with this id exists"));
        }
        admin.emails.insert(user.email.clone());
        admin.users.insert(user.id, user.clone());
        Ok(true)
    }

    async fn user(&self, id: UserId) -> Result<Option<User>, Error> {
        Ok(self.state().admin.users.get(&id).cloned())
    }

    async fn users(&self, page: &PageRequest) -> Result<Page<User>, Error> {
        let after = read_cursor('u', page, "users.list")?;
        let state = self.state();
        let mut users: Vec<_> =
            state.admin.users.values().map(|user| ((user.created_at, user.id.uuid()), user)).collect();
        users.sort_unstable_by_key(|(place, _)| *place);
        let rest = users.into_iter().filter(|(place, _)| after.is_none_or(|after| *place > after));
        Ok(page_of(rest.map(|((at, id), user)| (write_cursor('u', at, id), user.clone())), page.limit))
    }

    async fn insert_key(&self, key: &ApiKey) -> Result<(), Error> {
        let keys = &mut self.state().admin.keys;
        if keys.contains_key(&key.id) {
            return Err(taken("keys.insert", "a key with this id exists"));
        }
        keys.insert(key.id, key.clone());
        Ok(())
    }

    async fn key(&self, id: Uuid) -> Result<Option<ApiKey>, Error> {
        Ok(self.state().admin.keys.get(&id).cloned())
    }

    async fn touch_key(&self, id: Uuid, now: Timestamp) -> Result<(), Error> {
        if let Some(key) = self.state().admin.keys.get_mut(&id) {
            key.last_used_at = Some(now);
        }
        Ok(())
    }

    async fn delete_key(&self, id: Uuid) -> Result<bool, Error> {
        Ok(self.state().admin.keys.remove(&id).is_some())
    }

    async fn begin_idempotent(
        &self,
        user: UserId,
        key: &str,
        fingerprint: [u8; 32],
        now: Timestamp,
        stale_before: Timestamp,
    ) -> Result<Idempotent, Error> {
        let requests = &mut self.state().admin.requests;
        let place = (user, key.to_owned());
        if let Some(known) = requests.get(&place) {
            let stale = known.answer.is_none() && known.begun_at < stale_before;
            match &known.answer {
                _ if stale => {}
                _ if known.fingerprint != fingerprint => return Ok(Idempotent::Mismatch),
                None => return Ok(Idempotent::InFlight),
                Some((status, body)) => return Ok(Idempotent::Done { status: *status, body: body.clone() }),
            }
        }
        requests.insert(place, Request { fingerprint, begun_at: now, answer: None });
        Ok(Idempotent::Fresh)
    }

    async fn finish_idempotent(&self, user: UserId, key: &str, answer: Option<(u16, &[u8])>) -> Result<(), Error> {
        let requests = &mut self.state().admin.requests;
        let place = (user, key.to_owned());
        match answer {
            None => drop(requests.remove(&place)),
            Some((status, body)) => {
                if let Some(request) = requests.get_mut(&place) {
                    request.answer = Some((status, body.to_vec()));
                }
            }
        }
        Ok(())
    }

    async fn purge_idempotent(&self, before: Timestamp) -> Result<u64, Error> {
        let requests = &mut self.state().admin.requests;
        let had = requests.len();
        requests.retain(|_, request| request.begun_at >= before);
        Ok((had - requests.len()) as u64)
    }

    async fn forget_history(&self, before: Timestamp, limit: u64) -> Result<u64, Error> {
        Ok(self.state().logs.forget(before, limit))
    }

    async fn forget_replaced_tokens(&self, before: Timestamp) -> Result<u64, Error> {
        Ok(self.state().forget_replaced(before))
    }

    async fn canaries(&self) -> Result<Vec<(String, Vec<u8>)>, Error> {
        Ok(self.state().admin.canaries.iter().map(|(id, sealed)| (id.clone(), sealed.clone())).collect())
    }

    async fn insert_canary(&self, key_id: &str, sealed: &[u8]) -> Result<(), Error> {
        // The first proof stays: another one may come from another key under the same name.
        self.state().admin.canaries.entry(key_id.to_owned()).or_insert_with(|| sealed.to_vec());
        Ok(())
    }

    async fn key_usage(&self) -> Result<Vec<(String, u64)>, Error> {
        let mut usage = Map::<String, u64>::new();
        for row in self.state().connections.values() {
            *usage.entry(row.tokens.0.key_id().to_owned()).or_default() += 1;
        }
        Ok(usage.into_iter().collect())
    }

    async fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}

#[async_trait]
impl MediaStore for MemoryStore {
    async fn insert_media(&self, user: UserId, media: &StoredMedia, now: Timestamp) -> Result<(), Error> {
        let admin = &mut self.state().admin;
        if admin.media.contains_key(&media.id) {
            return Err(taken("media.insert", "a file with this id exists"));
        }
        admin.media.insert(media.id, (user, media.clone()));
        admin.media_since.insert(media.id, now);
        Ok(())
    }

    async fn media(&self, user: UserId, id: MediaId) -> Result<Option<StoredMedia>, Error> {
        Ok(self.state().admin.media.get(&id).filter(|(owner, _)| *owner == user).map(|(_, media)| media.clone()))
    }

    async fn media_bytes(&self, user: UserId) -> Result<u64, Error> {
        let state = self.state();
        Ok(state
            .admin
            .media
            .values()
            .filter(|(owner, _)| *owner == user)
            .map(|(_, media)| media.facts.size_bytes)
            .sum())
    }

    async fn old_media(
        &self,
        before: Timestamp,
        after: Option<MediaId>,
        limit: usize,
    ) -> Result<Vec<(UserId, MediaId)>, Error> {
        let state = self.state();
        let admin = &state.admin;
        let old = admin
            .media
            .iter()
            .filter(|(id, _)| after < Some(**id) && admin.media_since.get(*id).is_some_and(|since| *since < before));
        Ok(old.map(|(id, (user, _))| (*user, *id)).take(limit).collect())
    }

    async fn delete_media(&self, user: UserId, id: MediaId) -> Result<bool, Error> {
        let admin = &mut self.state().admin;
        let there = admin.media.get(&id).is_some_and(|(owner, _)| *owner == user);
        if there {
            admin.media.remove(&id);
            admin.media_since.remove(&id);
        }
        Ok(there)
    }
}
