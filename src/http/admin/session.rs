//! Log-ins of the operator's browser: who has shown the password once shows a cookie from then on.
//!
//! The cookie holds 256 random bits. Only their hash is kept, in memory, so that nothing that is read
//! out of the process or its files lets anybody in, and a restart logs everybody out. What a form has
//! to say besides ([`Visit::form_token`]) follows from the cookie and is not kept at all
//! (<https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html>).

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aws_lc_rs::{constant_time, digest, hmac, rand};
use data_encoding::HEXLOWER;

use super::{App, Request};
use crate::limits::{
    ADMIN_SESSION_AGE_MAX, ADMIN_SESSION_IDLE_MAX, ADMIN_SESSION_NOTICE_BYTES_MAX,
    ADMIN_SESSIONS_MAX,
};

/// The name of the cookie.
pub(super) const COOKIE: &str = "zlay_admin";
/// Where the browser shows it: the operator's page and the admin API, and nothing that is public.
const COOKIE_PATH: &str = "/admin";
/// The header by which a script of the operator's page says [`Visit::form_token`]. No page of another
/// origin can send it: it is not among those that a preflight allows.
pub(super) const TOKEN_HEADER: &str = "x-zlay-token";
/// Bytes of a token: 256 bits.
const TOKEN_BYTES: usize = 32;

/// What is left of a token.
type Hash = [u8; digest::SHA256_OUTPUT_LEN];

/// The log-ins that hold now.
#[derive(Default, Debug)]
pub(super) struct Sessions {
    open: Mutex<Vec<Session>>,
}

#[derive(Debug)]
struct Session {
    token: Hash,
    began: Instant,
    used: Instant,
    /// What was done last, in words, for the next page.
    notice: Option<String>,
}

/// A request that came with the cookie of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Visit {
    token: Hash,
    form_token: String,
}

impl Visit {
    /// What every form of this session says, and no other page can know.
    pub(super) fn form_token(&self) -> &str {
        &self.form_token
    }

    /// Whether a form is one of this session; the comparison takes the same time for every wrong one.
    pub(super) fn is_said_by(&self, form_token: &str) -> bool {
        let (ours, said) = (self.form_token.as_bytes(), form_token.as_bytes());
        constant_time::verify_slices_are_equal(ours, said).is_ok()
    }
}

impl Sessions {
    /// A new session, whose token is the value of its cookie. None: the system has no random numbers.
    /// Where there are [`ADMIN_SESSIONS_MAX`], the one that was not used for the longest time ends.
    pub(super) fn begin(&self, now: Instant) -> Option<String> {
        let mut token = [0; TOKEN_BYTES];
        rand::fill(&mut token).ok()?;
        let mut open = self.valid(now);
        if open.len() >= ADMIN_SESSIONS_MAX {
            open.sort_by_key(|session| session.used);
            open.remove(0);
        }
        open.push(Session {
            token: hash(&token),
            began: now,
            used: now,
            notice: None,
        });
        Some(HEXLOWER.encode(&token))
    }

    /// The session of a token, which is used by this where `is_use` says so: what a page fetches by
    /// itself does not keep a session alive that nobody sits before.
    pub(super) fn find(&self, token: &str, is_use: bool, now: Instant) -> Option<Visit> {
        let token = HEXLOWER.decode(token.as_bytes()).ok()?;
        let hash = hash(&token);
        let mut open = self.valid(now);
        let session = open.iter_mut().find(|session| session.is(&hash))?;
        if is_use {
            session.used = now;
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, &token);
        let form_token = HEXLOWER.encode(hmac::sign(&key, b"zlay form").as_ref());
        Some(Visit {
            token: hash,
            form_token,
        })
    }

    /// Ends a session.
    pub(super) fn end(&self, visit: &Visit) {
        self.lock().retain(|session| !session.is(&visit.token));
    }

    /// Leaves word for the next page of a session; a long one is cut.
    pub(super) fn leave_notice(&self, visit: &Visit, mut text: String) {
        if text.len() > ADMIN_SESSION_NOTICE_BYTES_MAX {
            let mut end = ADMIN_SESSION_NOTICE_BYTES_MAX;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            text.push('…');
        }
        let mut open = self.lock();
        if let Some(session) = open.iter_mut().find(|session| session.is(&visit.token)) {
            session.notice = Some(text);
        }
    }

    /// What was left for the next page of a session.
    pub(super) fn take_notice(&self, visit: &Visit) -> Option<String> {
        let mut open = self.lock();
        let session = open.iter_mut().find(|session| session.is(&visit.token))?;
        session.notice.take()
    }

    /// Those that hold at this time; the others are forgotten.
    fn valid(&self, now: Instant) -> MutexGuard<'_, Vec<Session>> {
        let mut open = self.lock();
        open.retain(|session| session.holds(now));
        open
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn holds(&self, now: Instant) -> bool {
        let since = |then| now.saturating_duration_since(then);
        since(self.began) < ADMIN_SESSION_AGE_MAX && since(self.used) < ADMIN_SESSION_IDLE_MAX
    }

    fn is(&self, hash: &Hash) -> bool {
        constant_time::verify_slices_are_equal(&self.token, hash).is_ok()
    }
}

fn hash(token: &[u8]) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest::digest(&digest::SHA256, token).as_ref());
    hash
}

/// The values of the cookie that a request shows; a neighbour under the same domain may have added one.
pub(super) fn tokens_in(request: &Request) -> impl Iterator<Item = &str> {
    let pairs = request.headers.all("cookie").flat_map(|c| c.split(';'));
    pairs.filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (name.trim() == COOKIE).then(|| value.trim())
    })
}

/// The session that a request belongs to.
pub(super) fn visit(app: &App, request: &Request, is_use: bool, now: Instant) -> Option<Visit> {
    let sessions = &app.admin.sessions;
    tokens_in(request).find_map(|token| sessions.find(token, is_use, now))
}

/// The header that gives a browser the cookie.
pub(super) fn set_cookie(request: &Request, token: &str) -> String {
    cookie(request, token, ADMIN_SESSION_AGE_MAX)
}

/// The header that takes it away.
pub(super) fn clear_cookie(request: &Request) -> String {
    cookie(request, "", Duration::ZERO)
}

/// See <https://httpwg.org/http-extensions/draft-ietf-httpbis-rfc6265bis.html#name-the-set-cookie-header-field>.
fn cookie(request: &Request, value: &str, age: Duration) -> String {
    let age = age.as_secs();
    let secure = match is_encrypted(request) {
        true => "; Secure",
        false => "",
    };
    format!(
        "{COOKIE}={value}; Path={COOKIE_PATH}; Max-Age={age}; HttpOnly; SameSite=Strict{secure}"
    )
}

/// Whether anything says that the browser spoke TLS: a proxy, or the browser itself, which names the
/// origin of its page. Everybody is believed, because who says so falsely only keeps his own browser
/// from showing the cookie; one word for plain HTTP beside one for TLS does not count.
fn is_encrypted(request: &Request) -> bool {
    let headers = &request.headers;
    let by_origin = headers
        .first("origin")
        .is_some_and(|origin| origin.starts_with("https://"));
    by_origin || headers.lists("x-forwarded-proto", "https")
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::http::request::{Headers, Method};

    fn request(lines: &[(&str, &str)]) -> Request {
        let mut headers = Headers::default();
        for (name, value) in lines {
            headers.push(name, value.as_bytes());
        }
        Request {
            method: Method::Post,
            path: "/admin/login".to_owned(),
            query: String::new(),
            headers,
            body: Vec::new(),
            client: IpAddr::from([192, 0, 2, 1]),
        }
    }

    #[test]
    fn a_session_ends_when_nobody_uses_it_and_when_it_is_old() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let token = sessions.begin(start).unwrap();
        let just_before = ADMIN_SESSION_IDLE_MAX - Duration::from_millis(1);
        let mut now = start;
        let mut uses = 0;
        while now + just_before < start + ADMIN_SESSION_AGE_MAX {
            now += just_before;
            assert!(sessions.find(&token, true, now).is_some());
            uses += 1;
        }
        assert!(uses > 2);
        let end = start + ADMIN_SESSION_AGE_MAX;
        assert!(
            sessions
                .find(&token, true, end - Duration::from_millis(1))
                .is_some()
        );
        assert_eq!(sessions.find(&token, true, end), None);
        assert!(sessions.lock().is_empty());

        let token = sessions.begin(start).unwrap();
        assert!(sessions.find(&token, false, start + just_before).is_some());
        let idle = start + ADMIN_SESSION_IDLE_MAX;
        assert_eq!(sessions.find(&token, true, idle), None, "a look is no use");
    }

    #[test]
    fn only_a_hash_is_kept_and_tokens_are_never_the_same() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let (one, other) = (sessions.begin(now).unwrap(), sessions.begin(now).unwrap());
        assert_ne!(one, other);
        let bytes = HEXLOWER.decode(one.as_bytes()).unwrap();
        assert_eq!(bytes.len(), TOKEN_BYTES);
        assert_eq!(sessions.lock()[0].token, hash(&bytes));
        let kept = format!("{sessions:?}");
        assert!(
            !kept.contains(
                &format!("{:?}", &bytes[..4])
                    .trim_matches(['[', ']'])
                    .to_owned()
            )
        );
        assert!(!kept.contains(&one));
        let (a, b) = (
            sessions.find(&one, true, now).unwrap(),
            sessions.find(&other, true, now).unwrap(),
        );
        assert_ne!(a.form_token(), b.form_token());
        assert!(a.is_said_by(a.form_token()) && !a.is_said_by(b.form_token()));
        assert!(!a.is_said_by("") && !a.is_said_by(&a.form_token()[1..]));
        assert!(!a.form_token().contains(&one));
    }

    #[test]
    fn what_is_no_token_opens_nothing_and_who_left_is_out() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let token = sessions.begin(now).unwrap();
        let hash = HEXLOWER.encode(&sessions.lock()[0].token);
        for wrong in ["", "00", "zz", &token[2..], &token.to_uppercase(), &hash] {
            assert_eq!(sessions.find(wrong, true, now), None, "{wrong}");
        }
        let visit = sessions.find(&token, true, now).unwrap();
        sessions.end(&visit);
        assert_eq!(sessions.find(&token, true, now), None);
    }

    #[test]
    fn there_are_so_many_sessions_and_the_one_that_rests_the_longest_ends() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let at = |n: usize| start + Duration::from_secs(n as u64);
        let tokens: Vec<_> = (0..ADMIN_SESSIONS_MAX)
            .map(|n| sessions.begin(at(n)).unwrap())
            .collect();
        assert!(
            sessions
                .find(&tokens[0], true, at(ADMIN_SESSIONS_MAX))
                .is_some()
        );
        let now = at(ADMIN_SESSIONS_MAX + 1);
        let latest = sessions.begin(now).unwrap();
        assert_eq!(sessions.lock().len(), ADMIN_SESSIONS_MAX);
        assert_eq!(sessions.find(&tokens[1], true, now), None);
        for token in [&tokens[0], &tokens[2], &latest] {
            assert!(sessions.find(token, true, now).is_some());
        }
    }

    #[test]
    fn a_notice_is_read_once_and_is_not_long() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let visit = sessions
            .find(&sessions.begin(now).unwrap(), true, now)
            .unwrap();
        sessions.leave_notice(&visit, "done".into());
        assert_eq!(sessions.take_notice(&visit), Some("done".into()));
        assert_eq!(sessions.take_notice(&visit), None);
        sessions.leave_notice(&visit, "é".repeat(ADMIN_SESSION_NOTICE_BYTES_MAX));
        let cut = sessions.take_notice(&visit).unwrap();
        assert!(cut.len() <= ADMIN_SESSION_NOTICE_BYTES_MAX + "…".len());
    }

    #[test]
    fn the_cookie_is_for_this_page_alone_and_secure_where_tls_was_spoken() {
        let plain = set_cookie(&request(&[]), "abc");
        let age = ADMIN_SESSION_AGE_MAX.as_secs();
        assert_eq!(
            plain,
            format!("zlay_admin=abc; Path=/admin; Max-Age={age}; HttpOnly; SameSite=Strict")
        );
        for (name, value, secure) in [
            ("X-Forwarded-Proto", "https", true),
            ("X-Forwarded-Proto", "HTTPS", true),
            ("X-Forwarded-Proto", "http, https", true),
            ("X-Forwarded-Proto", "http", false),
            ("X-Forwarded-Proto", "", false),
            ("Origin", "https://relay.test", true),
            ("Origin", "http://relay.test", false),
            ("Origin", "null", false),
        ] {
            let cookie = set_cookie(&request(&[(name, value)]), "abc");
            assert_eq!(cookie.ends_with("; Secure"), secure, "{name} {value}");
        }
        let gone = clear_cookie(&request(&[]));
        assert!(
            gone.starts_with("zlay_admin=; Path=/admin; Max-Age=0;"),
            "{gone}"
        );
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let request = request(&[
            ("Cookie", "a=b; zlay_admin=one;zlay_admin_x=no"),
            ("Cookie", "xzlay_admin=no; zlay_admin = two"),
        ]);
        assert_eq!(tokens_in(&request).collect::<Vec<_>>(), ["one", "two"]);
    }
}
