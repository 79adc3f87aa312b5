//! From rows to the words of the core, the same for both databases.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use serde::de::{DeserializeOwned, IntoDeserializer as _, value::Error as WordError};
use social_core::{
    account::{Account, AccountProfile, Connection, Version},
    draft::Draft,
    id::{AccountId, ConnectionId, DeliveryId, LogId, PlatformId, PostId, RemotePostId, UserId},
    phase::{Checkpoint, Phase, PhaseName, RemotePost},
    store::{Claimed, Delivery, Epoch, LogRow, Post, SealedTokens, WallTime},
    vault::Sealed,
};
use sqlx::Error;
use uuid::Uuid;

use crate::fault::unreadable;

/// A row whose columns are read by place.
pub trait Columns: Send + Sync {
    /// A UUID.
    fn id(&self, at: usize) -> Result<Option<Uuid>, Error>;
    /// An instant.
    fn at(&self, at: usize) -> Result<Option<Timestamp>, Error>;
    /// A text, or the text of a JSON value.
    fn text(&self, at: usize) -> Result<Option<Cow<'_, str>>, Error>;
    /// A number.
    fn int(&self, at: usize) -> Result<Option<i64>, Error>;
    /// Yes or no.
    fn flag(&self, at: usize) -> Result<Option<bool>, Error>;
    /// Bytes.
    fn bytes(&self, at: usize) -> Result<Option<Vec<u8>>, Error>;
}

/// Reads the columns of a row one after the other: the mapping below follows the lists of columns beside it.
#[derive(Debug)]
pub(crate) struct Reader<'r, R> {
    row: &'r R,
    next: usize,
}

impl<'r, R: Columns> Reader<'r, R> {
    pub(crate) fn of(row: &'r R) -> Self {
        Self { row, next: 0 }
    }

    fn take<T>(&mut self, read: impl FnOnce(&'r R, usize) -> Result<Option<T>, Error>) -> Result<Option<T>, Error> {
        let at = self.next;
        self.next += 1;
        read(self.row, at)
    }

    fn need<T>(&mut self, read: impl FnOnce(&'r R, usize) -> Result<Option<T>, Error>) -> Result<T, Error> {
        let at = self.next;
        self.take(read)?.ok_or_else(|| unreadable(format!("column {at} is empty")))
    }

    pub(crate) fn id(&mut self) -> Result<Uuid, Error> {
        self.need(R::id)
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn maybe_id(&mut self) -> Result<Option<Uuid>, Error> {
        self.take(R::id)
    }

    pub(crate) fn at(&mut self) -> Result<Timestamp, Error> {
        self.need(R::at)
    }

    pub(crate) fn maybe_at(&mut self) -> Result<Option<Timestamp>, Error> {
        self.take(R::at)
    }

    /// A text, as it stands in the row.
    fn str(&mut self) -> Result<Cow<'r, str>, Error> {
        self.need(R::text)
    }

    fn maybe_str(&mut self) -> Result<Option<Cow<'r, str>>, Error> {
        self.take(R::text)
    }

    pub(crate) fn text(&mut self) -> Result<String, Error> {
        self.str().map(Cow::into_owned)
    }

    pub(crate) fn maybe_text(&mut self) -> Result<Option<String>, Error> {
        Ok(self.maybe_str()?.map(Cow::into_owned))
    }

    pub(crate) fn int<T: TryFrom<i64>>(&mut self) -> Result<T, Error> {
        let at = self.next;
        T::try_from(self.need(R::int)?).map_err(|_| unreadable(format!("column {at} is out of range")))
    }

    pub(crate) fn maybe_int<T: TryFrom<i64>>(&mut self) -> Result<Option<T>, Error> {
        let at = self.next;
        let int = self.take(R::int)?;
        int.map(|int| T::try_from(int).map_err(|_| unreadable(format!("column {at} is out of range")))).transpose()
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Error> {
        self.need(R::flag)
    }

    pub(crate) fn maybe_flag(&mut self) -> Result<Option<bool>, Error> {
        self.take(R::flag)
    }

    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, Error> {
        self.need(R::bytes)
    }

    pub(crate) fn maybe_bytes(&mut self) -> Result<Option<Vec<u8>>, Error> {
        self.take(R::bytes)
    }

    pub(crate) fn hash(&mut self) -> Result<[u8; 32], Error> {
        let at = self.next;
        self.bytes()?.try_into().map_err(|_| unreadable(format!("column {at} is not 32 bytes long")))
    }

    pub(crate) fn json<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        let at = self.next;
        // The reason may quote what it read, and that is nobody's business.
        serde_json::from_str(&self.str()?).map_err(|_| unreadable(format!("column {at} holds JSON of another shape")))
    }

    /// A name that the core spells, such as a status.
    pub(crate) fn word<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        let at = self.next;
        let text = self.str()?;
        let word: Result<T, WordError> = T::deserialize((&*text).into_deserializer());
        word.map_err(|_| unreadable(format!("column {at} holds a word that this version does not know")))
    }

    pub(crate) fn platform(&mut self) -> Result<PlatformId, Error> {
        let at = self.next;
        PlatformId::parse(&self.str()?).map_err(|_| unreadable(format!("column {at} is no platform")))
    }
}

macro_rules! delivery_columns {
    () => {
        "d.id, d.post_id, d.user_id, d.account_id, d.platform, d.phase, d.checkpoint, d.attempt, d.crashes, d.epoch, d.due_at, \
         d.wake_at, d.late_limit_us, d.committing_since, d.parts, d.error, d.remote_id, d.permalink, d.published_at, d.updated_at"
    };
}
pub(crate) use delivery_columns;

/// Reads `delivery_columns`.
pub(crate) fn delivery<R: Columns>(from: &mut Reader<'_, R>) -> Result<Delivery, Error> {
    let (id, post, user, account) = (from.id()?, from.id()?, from.id()?, from.id()?);
    let (platform, name) = (from.platform()?, from.word::<PhaseName>()?);
    // Invariant I8: a checkpoint that cannot be read is none, and the phase follows from that.
    let checkpoint = from.maybe_str()?.and_then(|text| serde_json::from_str(&text).ok());
    let (attempt, crashes, epoch) = (from.int()?, from.int()?, Epoch(from.int()?));
    let (due_at, wake_at) = (from.at()?, from.maybe_at()?);
    let late_limit = Duration::from_micros(from.int()?);
    let committing_since = from.maybe_at()?;
    let parts = match from.maybe_str()? {
        Some(parts) => {
            serde_json::from_str(&parts).map_err(|_| unreadable("the parts of a delivery have another shape"))?
        }
        None => Vec::new(),
    };
    let error = from.maybe_text()?;
    let remote = RemotePost { id: from.maybe_text()?.map(RemotePostId::new), permalink: from.maybe_text()? };
    Ok(Delivery {
        id: DeliveryId::from_uuid(id),
        post: PostId::from_uuid(post),
        user: UserId::from_uuid(user),
        account: AccountId::from_uuid(account),
        platform,
        phase: Phase::restore(name, checkpoint, Some(remote)),
        attempt,
        crashes,
        epoch,
        due_at,
        wake_at,
        late_limit,
        committing_since,
        parts,
        error,
        published_at: from.maybe_at()?,
        updated_at: from.at()?,
    })
}

macro_rules! account_columns {
    () => {
        "a.id, a.user_id, a.connection_id, a.platform, a.remote_id, a.kind, a.handle, a.display_name, a.avatar_url, a.attributes, \
         a.status, a.created_at"
    };
}
pub(crate) use account_columns;

/// Reads `account_columns`.
pub(crate) fn account<R: Columns>(from: &mut Reader<'_, R>) -> Result<Account, Error> {
    Ok(Account {
        id: AccountId::from_uuid(from.id()?),
        user: UserId::from_uuid(from.id()?),
        connection: ConnectionId::from_uuid(from.id()?),
        platform: from.platform()?,
        profile: AccountProfile {
            remote_id: from.text()?,
            kind: from.word()?,
            handle: from.maybe_text()?,
            display_name: from.text()?,
            avatar_url: from.maybe_text()?,
            attributes: from.json()?,
        },
        status: from.word()?,
        created_at: from.at()?,
    })
}

macro_rules! connection_columns {
    () => {
        "c.id, c.user_id, c.platform, c.preset, c.status, c.requested_scopes, c.granted_scopes, c.expires_at, c.refresh_expires_at, \
         c.refreshable, c.version, c.created_at, c.updated_at"
    };
}
pub(crate) use connection_columns;

/// Reads `connection_columns`.
pub(crate) fn connection<R: Columns>(from: &mut Reader<'_, R>) -> Result<Connection, Error> {
    Ok(Connection {
        id: ConnectionId::from_uuid(from.id()?),
        user: UserId::from_uuid(from.id()?),
        platform: from.platform()?,
        preset: from.text()?,
        status: from.word()?,
        requested_scopes: from.json()?,
        granted_scopes: from.json()?,
        expires_at: from.maybe_at()?,
        refresh_expires_at: from.maybe_at()?,
        refreshable: from.flag()?,
        version: Version(from.int()?),
        created_at: from.at()?,
        updated_at: from.at()?,
    })
}

/// Ciphertext whose framing was checked.
pub(crate) fn sealed<R: Columns>(from: &mut Reader<'_, R>) -> Result<SealedTokens, Error> {
    let bytes = from.bytes()?;
    Sealed::from_bytes(bytes).map(SealedTokens).map_err(|_| unreadable("sealed tokens have another framing"))
}

macro_rules! post_columns {
    () => {
        "p.id, p.user_id, p.draft, p.scheduled_time, p.local_time, p.time_zone, p.created_at, p.updated_at"
    };
}
pub(crate) use post_columns;

/// Reads `post_columns`.
pub(crate) fn post<R: Columns>(from: &mut Reader<'_, R>) -> Result<Post, Error> {
    let (id, user, draft, scheduled_at) = (from.id()?, from.id()?, from.json()?, from.at()?);
    let wall = from.maybe_text()?.zip(from.maybe_text()?);
    Ok(Post {
        id: PostId::from_uuid(id),
        user: UserId::from_uuid(user),
        draft,
        scheduled_at,
        wall: wall.map(|(local_time, time_zone)| WallTime { local_time, time_zone }),
        created_at: from.at()?,
        updated_at: from.at()?,
    })
}

macro_rules! log_columns {
    () => {
        "l.seq, l.id, l.post_id, l.delivery_id, l.platform, l.event, l.success, l.attempt, l.response, l.created_at"
    };
}
pub(crate) use log_columns;

/// Reads `log_columns`.
pub(crate) fn log<R: Columns>(from: &mut Reader<'_, R>) -> Result<(i64, LogRow), Error> {
    let seq = from.int()?;
    let row = LogRow {
        id: LogId::from_uuid(from.id()?),
        post: PostId::from_uuid(from.id()?),
        delivery: DeliveryId::from_uuid(from.id()?),
        platform: from.platform()?,
        event: from.text()?,
        success: from.maybe_flag()?,
        attempt: from.int()?,
        response: from.json()?,
        created_at: from.at()?,
    };
    Ok((seq, row))
}

macro_rules! claim_columns {
    () => {
        concat!($crate::row::account_columns!(), ", coalesce(c.version, 0), p.draft")
    };
}
pub(crate) use claim_columns;

/// Puts claims together. Drafts and accounts are read once, however many deliveries share them.
#[derive(Debug, Default)]
pub struct Harvest {
    /// The networks that were asked for; their names are shared.
    platforms: Vec<PlatformId>,
    drafts: HashMap<PostId, Option<Arc<Draft>>>,
    accounts: HashMap<AccountId, Arc<Account>>,
    /// What can be worked on.
    pub(crate) claimed: Vec<Claimed>,
    /// Deliveries whose draft cannot be read.
    pub(crate) spoilt: Vec<Delivery>,
    /// What can be read of deliveries that cannot be read as a whole.
    pub(crate) scraps: Vec<Scrap>,
}

/// As much of a row as is needed to take it out of the queue.
#[derive(Debug)]
pub(crate) struct Scrap {
    pub(crate) id: DeliveryId,
    pub(crate) epoch: Epoch,
    /// `None` if it is a word that nobody knows.
    pub(crate) phase: Option<PhaseName>,
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) attempt: u32,
    pub(crate) crashes: u32,
    pub(crate) committing_since: Option<Timestamp>,
}

impl Scrap {
    /// Reads the places of `delivery_columns` that matter, whatever stands in the others.
    fn of<R: Columns>(row: &R) -> Option<Self> {
        let text = |at| row.text(at).ok().flatten();
        let number = |at| row.int(at).ok().flatten().and_then(|number| u32::try_from(number).ok()).unwrap_or_default();
        Some(Self {
            id: DeliveryId::from_uuid(row.id(0).ok()??),
            epoch: Epoch(row.int(9).ok()??),
            phase: text(5).and_then(|name| PhaseName::parse(&name)),
            checkpoint: text(6).and_then(|json| serde_json::from_str(&json).ok()),
            attempt: number(7),
            crashes: number(8),
            committing_since: row.at(13).ok().flatten(),
        })
    }
}

impl Harvest {
    /// For what a claim of these networks brings.
    pub(crate) fn of<'p>(platforms: impl Iterator<Item = &'p PlatformId>) -> Self {
        Self { platforms: platforms.cloned().collect(), ..Self::default() }
    }

    /// Reads `delivery_columns` and `claim_columns`.
    pub(crate) fn take<R: Columns>(&mut self, row: &R) {
        if let Err(error) = self.take_whole(row) {
            // It does not keep the others from their work.
            tracing::error!(%error, "a delivery that is due cannot be read");
            self.scraps.extend(Scrap::of(row));
        }
    }

    fn take_whole<R: Columns>(&mut self, row: &R) -> Result<(), Error> {
        let mut from = Reader::of(row);
        let mut delivery = delivery(&mut from)?;
        if let Some(known) = self.platforms.iter().find(|known| **known == delivery.platform) {
            delivery.platform = known.clone();
        }
        let own = account(&mut from)?;
        let account = Arc::clone(self.accounts.entry(own.id).or_insert_with(|| Arc::new(own)));
        let token_version = Version(from.int()?);
        let draft = match self.drafts.entry(delivery.post) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(free) => free.insert(from.json().ok().map(Arc::new)).clone(),
        };
        match draft {
            Some(draft) => self.claimed.push(Claimed { delivery, draft, account, token_version }),
            None => self.spoilt.push(delivery),
        }
        Ok(())
    }
}
