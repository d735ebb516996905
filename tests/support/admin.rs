//! The relay as its operator reaches it, and what anybody may know of its hosts.

use serde_json::{Value, json};

use crate::site::{PASSWORD, Relay, agent, answer};

impl Relay {
    /// Asks the admin API for something with a body; without one it is a `GET`.
    pub(crate) fn admin(&self, path: &str, body: Option<&str>) -> (u16, Value) {
        let url = format!("http://{}{path}", self.public);
        let bearer = format!("Bearer {PASSWORD}");
        let response = match body {
            Some(body) => agent().post(url).header("Authorization", bearer).send(body),
            None => agent().get(url).header("Authorization", bearer).call(),
        };
        answer(response.unwrap())
    }

    /// Makes a decision, which must succeed.
    pub(crate) fn decide(&self, path: &str, body: &str) {
        let success = json!({"success": "true"});
        assert_eq!(
            self.admin(path, Some(body)),
            (200, success),
            "{path} {body}"
        );
    }

    /// What anybody may know of a host.
    pub(crate) fn host_page(&self, host: &str) -> (u16, Value) {
        let url = format!("http://{}/hosts/{host}.json", self.public);
        answer(agent().get(url).call().unwrap())
    }

    /// One part of that, which must be there.
    pub(crate) fn of_host(&self, host: &str, pointer: &str) -> Value {
        let (status, page) = self.host_page(host);
        assert_eq!(status, 200, "{page}");
        let value = page.pointer(pointer);
        value
            .unwrap_or_else(|| panic!("no {pointer} in {page}"))
            .clone()
    }

    /// Changes the terms of a host.
    pub(crate) fn change(&self, host: &str, mut terms: Value) {
        terms["host"] = host.into();
        self.decide("/admin/pds/changeLimits", &terms.to_string());
    }

    /// Bans a host, or no longer.
    pub(crate) fn ban(&self, host: &str, banned: bool) {
        let word = if banned { "block" } else { "unblock" };
        self.decide(&format!("/admin/pds/{word}?host={host}"), "");
    }

    /// Changes settings.
    pub(crate) fn set(&self, settings: &Value) {
        self.decide("/admin/settings/change", &settings.to_string());
    }

    /// What a page of the operator's says, which must be there.
    pub(crate) fn look(&self, path: &str) -> Value {
        let (status, page) = self.admin(path, None);
        assert_eq!(status, 200, "{path}: {page}");
        page
    }

    /// The value of a setting.
    pub(crate) fn setting(&self, name: &str) -> Value {
        self.look("/admin/settings")[name]["value"].clone()
    }

    /// The names of `listHosts`.
    pub(crate) fn listed(&self) -> Vec<String> {
        let url = format!("http://{}/xrpc/com.atproto.sync.listHosts", self.public);
        let (status, page) = answer(agent().get(url).call().unwrap());
        assert_eq!(status, 200, "{page}");
        let hosts = page["hosts"].as_array().unwrap().iter();
        let names = hosts.map(|host| host["hostname"].as_str().unwrap().to_owned());
        names.collect()
    }

    /// What it said so far that has this in it.
    pub(crate) fn said(&self, part: &str) -> Vec<String> {
        let log = self.log.lock().unwrap();
        let lines = log.iter().filter(|line| line.contains(part));
        lines.cloned().collect()
    }
}
