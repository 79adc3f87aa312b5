use crate::answer::{self, Answer, Input};
use crate::oauth::{App, Grant, Issued};
use crate::server::BodyRule;
use crate::world::{Persona, World};
use axum::body::Body;
use http::request::Parts;
use std::sync::Arc;
pub(crate) const SCOPES: &[&str] = &["openid"];
pub(crate) const APPS: &[App] = &[];
pub(crate) const OPERATIONS: &[&str] = &["unknown"];
#[derive(Debug)]
pub(crate) struct State;
impl State {
    pub(crate) fn new(_seed: u64) -> Self {
        Self
    }
    pub(crate) fn personas(&self) -> Vec<Persona> {
        Vec::new()
    }
    pub(crate) fn persona(&self, _name: &str) -> Option<usize> {
        None
    }
    pub(crate) fn name_of(&self, _persona: usize) -> String {
        String::new()
    }
    pub(crate) fn urn_of(&self, _app: usize, _persona: usize) -> String {
        String::new()
    }
    pub(crate) fn add_persona(&mut self, _n: &str, _d: &str) -> Persona {
        unreachable!()
    }
}
pub(crate) enum Route {}
impl Route {
    pub(crate) fn find(_: &Parts, _: &str) -> Option<Self> {
        None
    }
    pub(crate) fn operation(&self) -> &'static str {
        "unknown"
    }
    pub(crate) fn body_rule(&self) -> BodyRule {
        BodyRule::Buffer(0)
    }
}
pub(crate) fn serve(_: &Arc<World>, _: Route, _: &Input) -> Answer {
    answer::empty(404)
}
pub(crate) async fn receive(_: &Arc<World>, _: Route, _: &Parts, _: Body) -> Answer {
    answer::empty(404)
}
pub(crate) fn unknown_path() -> Answer {
    answer::empty(404)
}
pub(crate) fn issue(_: &World, _: Grant, _: i64) -> Issued {
    unreachable!()
}
