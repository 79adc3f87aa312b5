//! How many connections each address has open, so that one of them cannot take the places of all.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{config::IpNetwork, limiter::group};

/// Connections by address; clones count together.
#[derive(Debug, Clone)]
pub(super) struct Crowd {
    most: usize,
    /// Who may have any number: proxies that speak for many, and this machine itself.
    exempt: Arc<[IpNetwork]>,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A place of an address; given back when dropped.
#[derive(Debug)]
pub(super) struct Seat(Option<(Crowd, IpAddr)>);

impl Crowd {
    pub(super) fn new(most: usize, exempt: Arc<[IpNetwork]>) -> Self {
        Self { most: most.max(1), exempt, open: Arc::default() }
    }

    /// Takes a place for a connection from `ip`, unless that address has all of its own.
    pub(super) fn enter(&self, ip: IpAddr) -> Option<Seat> {
        if self.exempt.iter().any(|network| network.contains(ip)) {
            return Some(Seat(None));
        }
        let ip = group(ip);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(ip).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Seat(Some((self.clone(), ip))))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some((crowd, ip)) = &self.0 else { return };
        let mut open = crowd.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(ip) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_places_and_no_more() {
        let exempt: IpNetwork = "10.0.0.0/8".parse().unwrap();
        let crowd = Crowd::new(2, Arc::from([exempt]));
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let (a, b) = (crowd.enter(ip("192.0.2.1")).unwrap(), crowd.enter(ip("::ffff:192.0.2.1")).unwrap());
        assert!(crowd.enter(ip("192.0.2.1")).is_none(), "one address, however it is written");
        assert!(crowd.enter(ip("192.0.2.2")).is_some(), "others have their own");
        let proxied: Vec<_> = (0..5).map(|_| crowd.enter(ip("10.1.2.3"))).collect();
        assert!(proxied.iter().all(Option::is_some), "a proxy speaks for many");
        let (c, d) = (crowd.enter(ip("2001:db8:1:2::1")), crowd.enter(ip("2001:db8:1:2:ffff::1")));
        assert!(c.is_some() && d.is_some() && crowd.enter(ip("2001:db8:1:2:3::1")).is_none(), "one host has a /64");
        drop(a);
        assert!(crowd.enter(ip("192.0.2.1")).is_some());
        drop((b, c, d, proxied));
        assert!(crowd.open.lock().unwrap().is_empty(), "nothing is kept of those who have gone");
    }
}
