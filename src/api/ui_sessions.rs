//! Sessions of operators, in memory: a restart ends them. The id is random and kept as its hash only; the token is not
//! kept at all.

use crate::auth::{Authenticator, Identity, Scope};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::{collections::HashMap, time::Duration};
use tokio::time::Instant;

/// A working day.
pub(super) const SESSION_LIFETIME: Duration = Duration::from_secs(8 * 3600);
/// The oldest one makes room for another.
const MAX_SESSIONS: usize = 64;
const ID_BYTES: usize = 32;

#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<[u8; 32], Session>>);

struct Session {
    identity: Identity,
    ends: Instant,
}

impl Sessions {
    /// The id of a new session; `None` if the operating system has no random numbers.
    pub(super) fn open(&self, identity: Identity) -> Option<String> {
        let mut random = [0; ID_BYTES];
        getrandom::fill(&mut random).ok()?;
        let id = URL_SAFE_NO_PAD.encode(random);
        let now = Instant::now();
        let mut sessions = self.0.lock();
        sessions.retain(|_, session| session.ends > now);
        if sessions.len() >= MAX_SESSIONS
            && let Some(oldest) = sessions.iter().min_by_key(|(_, session)| session.ends).map(|(id, _)| *id)
        {
            sessions.remove(&oldest);
        }
        sessions.insert(hash(&id), Session { identity, ends: now + SESSION_LIFETIME });
        Some(id)
    }

    /// Whether the session lasts, and its caller is still known and may see everything.
    pub(super) fn is_valid(&self, id: &str, authenticator: &Authenticator) -> bool {
        let key = hash(id);
        let mut sessions = self.0.lock();
        let Some(session) = sessions.get(&key) else { return false };
        let is_valid = session.ends > Instant::now()
            && authenticator
                .check_again(&session.identity)
                .is_ok_and(|identity| identity.caller.has_scope(Scope::Admin));
        if !is_valid {
            sessions.remove(&key);
        }
        is_valid
    }
}

/// How long the comparison of a hash takes says nothing of the id.
fn hash(id: &str) -> [u8; 32] {
    Sha256::digest(id).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Callers, Mode};
    use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
    use std::{fs, path::Path};

    /// The hash is that of the token `test`.
    fn authenticator(directory: &Path, scope: &str) -> Authenticator {
        let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let file = directory.join("callers.toml");
        let text = format!("[[callers]]\nname = \"ops\"\ntokens = [\"sha256:{hash}\"]\nscopes = [\"{scope}\"]\n");
        fs::write(&file, text).unwrap();
        let callers = Callers::read(&file).unwrap();
        Authenticator::new(Mode::Enforce, file, callers)
    }

    fn identity(authenticator: &Authenticator) -> Identity {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer test"))]);
        authenticator.identify(&headers, None).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_lasts_eight_hours_while_its_caller_has_the_scope() {
        let directory = tempfile::tempdir().unwrap();
        let admin = authenticator(directory.path(), "admin");
        let sessions = Sessions::default();
        let [first, second] = [(); 2].map(|()| sessions.open(identity(&admin)).unwrap());
        assert!(first != second && first.len() == 43, "256 random bits: {first}");
        assert!(sessions.is_valid(&first, &admin) && sessions.is_valid(&second, &admin));
        assert!(!sessions.is_valid("", &admin) && !sessions.is_valid("test", &admin), "a token is no session");

        assert!(!sessions.is_valid(&first, &authenticator(directory.path(), "read")), "the scope was taken away");
        assert!(!sessions.is_valid(&first, &admin), "and the session ended with that");

        tokio::time::advance(SESSION_LIFETIME - Duration::from_secs(1)).await;
        assert!(sessions.is_valid(&second, &admin));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!sessions.is_valid(&second, &admin));
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_session_makes_room() {
        let directory = tempfile::tempdir().unwrap();
        let admin = authenticator(directory.path(), "admin");
        let sessions = Sessions::default();
        let mut ids = Vec::new();
        for _ in 0..=MAX_SESSIONS {
            ids.push(sessions.open(identity(&admin)).unwrap());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let valid: Vec<bool> = ids.iter().map(|id| sessions.is_valid(id, &admin)).collect();
        assert_eq!((valid[0], valid.iter().filter(|valid| **valid).count()), (false, MAX_SESSIONS));
    }
}
