//! Everything that the sandbox remembers.

use crate::answer::Pairs;
use crate::clock::{Clock, Time};
use crate::faults::Faults;
use crate::ledger::Ledger;
use crate::linkedin;
use crate::lock;
use crate::media::MediaStore;
use crate::oauth::{Grant, Platform, TokenBook};
use crate::requests::RequestLog;
use crate::rng::Rng;
use crate::settings::Settings;
use crate::x;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) time: Time,
    pub(crate) seed: u64,
    settings: RwLock<Arc<Settings>>,
    initial: Settings,
    pub(crate) faults: Faults,
    pub(crate) ledger: Ledger,
    pub(crate) requests: RequestLog,
    pub(crate) tokens: TokenBook,
    pub(crate) media: MediaStore,
    pub(crate) x: Mutex<x::State>,
    pub(crate) linkedin: Mutex<linkedin::State>,
    /// `http://address` of the listening socket, if there is one.
    pub(crate) bound: OnceLock<Arc<str>>,
    /// Chance for what is neither a token nor a fault.
    chance: Mutex<Rng>,
}

/// Someone who can log in at a network of the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persona {
    /// `x`, `linkedin`.
    pub platform: String,
    /// Name for `persona=` and for grants.
    pub name: String,
    /// Name for people.
    pub display_name: String,
    /// The account as it appears in the ledger (LinkedIn: for the app `sandbox-linkedin-client`).
    pub account: String,
    /// What is special about it.
    pub note: String,
}

impl World {
    pub(crate) fn new(seed: u64, settings: Settings, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            time: Time::new(clock),
            seed,
            settings: RwLock::new(Arc::new(settings.clone())),
            initial: settings,
            faults: Faults::default(),
            ledger: Ledger::default(),
            requests: RequestLog::default(),
            tokens: TokenBook::new(seed),
            media: MediaStore::default(),
            x: Mutex::new(x::State::new(seed)),
            linkedin: Mutex::new(linkedin::State::new(seed)),
            bound: OnceLock::new(),
            chance: Mutex::new(Rng::new(seed)),
        })
    }

    pub(crate) fn now(&self) -> i64 {
        self.time.now()
    }

    /// A number from 0 to `most`, both included.
    pub(crate) fn chance_below(&self, most: u64) -> u64 {
        if most == 0 { 0 } else { lock(&self.chance).next() % most.saturating_add(1) }
    }

    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_settings(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    pub(crate) fn reset(&self) {
        self.faults.disarm(None);
        self.set_settings(self.initial.clone());
        self.time.restore();
        let mut x = lock(&self.x);
        let mut linkedin = lock(&self.linkedin);
        self.tokens.clear();
        self.ledger.clear();
        self.media.clear();
        self.requests.clear();
        *x = x::State::new(self.seed);
        *linkedin = linkedin::State::new(self.seed);
    }

    pub(crate) fn personas(&self, platform: Platform) -> Vec<Persona> {
        match platform {
            Platform::X => lock(&self.x).personas(),
            Platform::LinkedIn => lock(&self.linkedin).personas(),
        }
    }

    pub(crate) fn persona_index(&self, platform: Platform, name: &str) -> Option<usize> {
        match platform {
            Platform::X => lock(&self.x).persona(name),
            Platform::LinkedIn => lock(&self.linkedin).persona(name),
        }
    }

    /// The persona behind a grant, as `persona=` names it.
    pub(crate) fn persona_name(&self, grant: &Grant) -> String {
        match grant.platform {
            Platform::X => lock(&self.x).name_of(grant.persona),
            Platform::LinkedIn => lock(&self.linkedin).name_of(grant.persona),
        }
    }

    /// Whether a fault's `account` means the holder of this grant.
    pub(crate) fn is_account(&self, grant: &Grant, wanted: &str) -> bool {
        self.persona_name(grant) == wanted
            || match grant.platform {
                Platform::X => lock(&self.x).account_of(grant.persona) == wanted,
                Platform::LinkedIn => lock(&self.linkedin).urn_of(grant.app, grant.persona) == wanted,
            }
    }

    pub(crate) fn add_persona(&self, platform: Platform, name: &str, fields: &Pairs) -> Result<Persona, String> {
        let valid =
            !name.is_empty() && name.len() <= 15 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !valid {
            return Err("a persona's name has 1 to 15 letters, digits or underscores".to_owned());
        }
        if self.persona_index(platform, name).is_some() {
            return Err(format!("there is already a persona {name}"));
        }
        let display_name = fields.get("display_name").unwrap_or(name);
        Ok(match platform {
            Platform::X => lock(&self.x).add_persona(name, display_name, fields.get("subscription_type")),
            Platform::LinkedIn => lock(&self.linkedin).add_persona(name, display_name),
        })
    }
}
