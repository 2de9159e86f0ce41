//! The callers file: TOML, read again when it changes. All faults are reported at once.

use super::{
    caller::{Caller, RateLimit},
    scope::Scope,
    token::TokenHash,
};
use crate::{
    registration::{CallerId, CallerName, CallerQuota, CaseId, InvalidCallerName},
    telemetry::redact,
};
use governor::Quota;
use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs,
    hash::Hash,
    io::{ErrorKind, Read},
    num::NonZeroU32,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use toml::{Table, Value};

const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;
/// Calls a second.
const MAX_RATE: u32 = 1_000_000;
/// A known key with as many is suggested.
const MAX_TYPING_ERRORS: usize = 3;
const KEYS: [&str; 11] = [
    "name",
    "tokens",
    "certificates",
    "subjects",
    "scopes",
    "case_prefixes",
    "rate",
    "burst",
    "max_unfinished",
    "max_waiting",
    "daily_limit",
];

/// The callers, by each of their credentials.
#[derive(Debug, Default)]
pub struct Callers {
    pub(super) by_token: HashMap<TokenHash, Arc<Caller>>,
    /// By an exact subject alternative name: a URI, or `dns:` and a name.
    pub(super) by_certificate: HashMap<String, Arc<Caller>>,
    /// By `iss|sub` of a JWT.
    pub(super) by_subject: HashMap<String, Arc<Caller>>,
    by_name: BTreeMap<CallerName, Arc<Caller>>,
    /// The file they were read from, to notice its next change.
    pub(super) text: String,
}

/// Every fault of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallersFileError(Vec<String>);

impl fmt::Display for CallersFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for CallersFileError {}

impl CallersFileError {
    fn one(fault: impl Into<String>) -> Self {
        Self(vec![fault.into()])
    }

    /// One by one.
    pub fn faults(&self) -> &[String] {
        &self.0
    }
}

/// The text of the file.
///
/// # Errors
/// When it cannot be read, or is too large.
pub(super) fn read_text(path: &Path) -> Result<String, CallersFileError> {
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text));
    match read {
        Ok(_) if text.len() as u64 > MAX_FILE_BYTES => {
            Err(CallersFileError::one(format!("is larger than {MAX_FILE_BYTES} bytes")))
        }
        Ok(_) => Ok(text),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(CallersFileError::one("no such file")),
        Err(error) => Err(CallersFileError::one(format!("cannot be read: {}", error.kind()))),
    }
}

impl Callers {
    pub(super) fn names(&self) -> Vec<CallerName> {
        self.by_name.keys().cloned().collect()
    }

    /// Reads the file of `registrar callers check`.
    ///
    /// # Errors
    /// All faults at once.
    pub fn read(path: &Path) -> Result<Self, CallersFileError> {
        Self::parse(&read_text(path)?, &Self::default())
    }

    /// The number of callers.
    pub fn count(&self) -> usize {
        self.by_name.len()
    }

    /// Keeps of the callers of the `previous` file what they have used of their rates.
    pub(super) fn parse(text: &str, previous: &Self) -> Result<Self, CallersFileError> {
        let root = text.parse::<Table>().map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            // The library's own text quotes the line, which may hold a token.
            CallersFileError::one(format!("line {line} is not TOML: {}", error.message()))
        })?;
        let mut faults = Vec::new();
        for key in root.keys().filter(|key| *key != "callers") {
            faults.push(format!("has an unknown key `{key}`: every caller is a table [[callers]]"));
        }
        let entries = match root.get("callers") {
            Some(Value::Array(entries)) if !entries.is_empty() => entries.as_slice(),
            Some(_) | None => {
                faults.push("has no callers: each is a table [[callers]]".to_owned());
                &[]
            }
        };
        let mut callers = Self { text: text.to_owned(), ..Self::default() };
        for (position, entry) in entries.iter().enumerate() {
            let Some(table) = entry.as_table() else {
                faults.push(format!("caller {} is not a table", position + 1));
                continue;
            };
            let mut entry = EntryReader { table, position, faults: &mut faults };
            callers.add(&mut entry, previous);
        }
        // An unknown key may be a token in the wrong place.
        let faults: Vec<_> = faults.iter().map(|fault| redact(fault).into_owned()).collect();
        if faults.is_empty() { Ok(callers) } else { Err(CallersFileError(faults)) }
    }

    fn add(&mut self, entry: &mut EntryReader<'_>, previous: &Self) {
        entry.refuse_unknown_keys();
        let name = entry.name();
        let tokens = entry.list("tokens", TokenHash::parse);
        let certificates = entry.list("certificates", parse_certificate_name);
        let subjects = entry.list("subjects", parse_subject);
        if !["tokens", "certificates", "subjects"].iter().any(|key| entry.table.contains_key(*key)) {
            entry.fault("cannot be identified: it needs tokens, certificates or subjects");
        }
        let scopes = entry.list("scopes", str::parse::<Scope>);
        if !entry.table.contains_key("scopes") {
            entry.fault("has no scopes: register, read, verify or admin");
        }
        let case_prefixes = entry.list("case_prefixes", parse_case_prefix);
        let rate = entry.rate();
        let quota = CallerQuota {
            max_unfinished: entry.positive("max_unfinished"),
            daily_limit: entry.positive("daily_limit"),
        };
        let max_waiting = entry.positive("max_waiting");
        let Some(name) = name else { return };
        if self.by_name.contains_key(&name) {
            entry.fault("has the name of an earlier caller");
        }
        let before = previous.by_name.get(&name);
        let same_rate = before.and_then(|before| before.rate.clone()).filter(|before| Some(before.quota()) == rate);
        let caller = Arc::new(Caller {
            id: before.map_or_else(next_caller_id, |before| before.id),
            name: name.clone(),
            scopes,
            case_prefixes: entry.table.contains_key("case_prefixes").then_some(case_prefixes),
            rate: same_rate.or_else(|| rate.map(RateLimit::new).map(Arc::new)),
            quota,
            max_waiting,
        });
        insert_all(&mut self.by_token, tokens, &caller, "tokens", entry);
        insert_all(&mut self.by_certificate, certificates, &caller, "certificates", entry);
        insert_all(&mut self.by_subject, subjects, &caller, "subjects", entry);
        self.by_name.insert(name, caller);
    }
}

/// Each credential belongs to one caller.
fn insert_all<K: Eq + Hash>(
    known: &mut HashMap<K, Arc<Caller>>,
    keys: Vec<K>,
    caller: &Arc<Caller>,
    field: &'static str,
    entry: &mut EntryReader<'_>,
) {
    for key in keys {
        if let Some(other) = known.insert(key, caller.clone()) {
            entry.fault(&format!("has an entry in {field} that {} has too", other.name));
        }
    }
}

/// A table `[[callers]]`. Its faults name it, and repeat no value that may be a secret.
struct EntryReader<'a> {
    table: &'a Table,
    position: usize,
    faults: &'a mut Vec<String>,
}

impl EntryReader<'_> {
    fn fault(&mut self, problem: &str) {
        let number = self.position + 1;
        let name = self.table.get("name").and_then(Value::as_str).and_then(|name| name.parse::<CallerName>().ok());
        let name = name.map(|name| format!(" ({name})")).unwrap_or_default();
        self.faults.push(format!("caller {number}{name} {problem}"));
    }

    fn refuse_unknown_keys(&mut self) {
        for key in self.table.keys().filter(|key| !KEYS.contains(&key.as_str())) {
            let similar = KEYS.into_iter().filter(|known| strsim::damerau_levenshtein(known, key) <= MAX_TYPING_ERRORS);
            let meant = similar.min_by_key(|known| strsim::damerau_levenshtein(known, key));
            let meant = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
            self.fault(&format!("has an unknown key `{key}`{meant}"));
        }
    }

    fn name(&mut self) -> Option<CallerName> {
        let name = self.table.get("name").and_then(Value::as_str).map(str::parse);
        match name {
            Some(Ok(name)) => return Some(name),
            Some(Err(InvalidCallerName)) => self.fault(&format!("has a name that {InvalidCallerName}")),
            None => self.fault("has no name"),
        }
        None
    }

    /// Empty if it is absent. An empty list is a fault: it would allow nothing.
    fn list<T, E: fmt::Display>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, E>) -> Vec<T> {
        let Some(value) = self.table.get(key) else { return Vec::new() };
        let texts = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
        let Some(texts) = texts.filter(|texts| !texts.is_empty()) else {
            self.fault(&format!("has `{key}` that is not a list of texts with at least one"));
            return Vec::new();
        };
        let mut parsed = Vec::new();
        for (position, text) in texts.into_iter().enumerate() {
            match parse(text) {
                Ok(entry) => parsed.push(entry),
                Err(error) => self.fault(&format!("has entry {} of `{key}` that {error}", position + 1)),
            }
        }
        parsed
    }

    fn positive(&mut self, key: &'static str) -> Option<u64> {
        let number = self.table.get(key)?.as_integer().and_then(|number| u64::try_from(number).ok());
        let number = number.filter(|number| *number > 0);
        if number.is_none() {
            self.fault(&format!("has `{key}` that is not a whole number above 0; leave it out for no limit"));
        }
        number
    }

    fn rate(&mut self) -> Option<Quota> {
        let [rate, burst] = ["rate", "burst"].map(|key| {
            let number = self.positive(key)?;
            let number = u32::try_from(number).ok().filter(|number| *number <= MAX_RATE).and_then(NonZeroU32::new);
            if number.is_none() {
                self.fault(&format!("has `{key}` above {MAX_RATE}"));
            }
            number
        });
        if burst.is_some() && !self.table.contains_key("rate") {
            self.fault("has `burst` without `rate`");
        }
        let rate = rate?;
        Some(Quota::per_second(rate).allow_burst(burst.unwrap_or(rate)))
    }
}

fn parse_certificate_name(text: &str) -> Result<String, &'static str> {
    let is_dns = text.strip_prefix("dns:").is_some_and(|name| !name.is_empty());
    let is_uri = !text.starts_with("dns:")
        && text.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    ((is_dns || is_uri) && is_plain)
        .then(|| text.to_owned())
        .ok_or("is not a name of a certificate: use its URI, such as spiffe://prod/ns/a/sa/b, or dns:NAME")
}

fn parse_subject(text: &str) -> Result<String, &'static str> {
    let parts = text.rsplit_once('|').filter(|(issuer, subject)| !issuer.is_empty() && !subject.is_empty());
    parts.map(|_| text.to_owned()).ok_or("is not ISSUER|SUBJECT, such as https://issuer.example|service-a")
}

fn parse_case_prefix(text: &str) -> Result<String, String> {
    // A prefix is the beginning of a case id, and as such a case id itself.
    text.parse::<CaseId>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn next_caller_id() -> CallerId {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    CallerId::authenticated(NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [[callers]]
        name = "aaa-service"
        tokens = ["sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]
        certificates = ["spiffe://prod/ns/aaa/sa/aaa", "dns:aaa.internal"]
        subjects = ["https://issuer.example|aaa"]
        scopes = ["register", "read"]
        case_prefixes = ["AAA-"]
        rate = 50
        burst = 100
        max_unfinished = 10000
        max_waiting = 500
        daily_limit = 20000

        [[callers]]
        name = "operator"
        subjects = ["https://issuer.example|operator"]
        scopes = ["admin"]
    "#;

    fn parse(text: &str) -> Result<Callers, CallersFileError> {
        Callers::parse(text, &Callers::default())
    }

    #[test]
    fn callers_are_known_by_each_of_their_credentials() {
        let callers = parse(GOOD).unwrap();
        let by_token = &callers.by_token[&TokenHash::of("test")];
        let by_name = &callers.by_certificate["dns:aaa.internal"];
        assert!(Arc::ptr_eq(by_token, by_name));
        let case = |text: &str| text.parse().unwrap();
        for (scope, has) in
            [(Scope::Register, true), (Scope::Read, true), (Scope::Verify, false), (Scope::Admin, false)]
        {
            assert_eq!(by_token.has_scope(scope), has, "{scope:?}");
        }
        assert!(by_token.may_use_case(&case("AAA-1")) && !by_token.may_use_case(&case("BAAA-1")));
        let operator = &callers.by_subject["https://issuer.example|operator"];
        assert!(operator.has_scope(Scope::Verify) && operator.may_use_case(&case("B")));
        assert_ne!(operator.id, by_token.id);
    }

    #[test]
    fn a_new_file_keeps_what_was_used_of_a_rate_that_is_the_same() {
        let callers = parse(GOOD).unwrap();
        let of = |callers: &Callers| callers.by_token[&TokenHash::of("test")].clone();
        while of(&callers).take_call().is_ok() {}
        let same = Callers::parse(GOOD, &callers).unwrap();
        assert!(of(&same).take_call().is_err());
        assert_eq!(of(&same).id, of(&callers).id);
        let faster = Callers::parse(&GOOD.replace("burst = 100", "burst = 101"), &callers).unwrap();
        assert!(of(&faster).take_call().is_ok());
    }

    #[test]
    fn all_faults_are_named_at_once_and_no_value_is_repeated() {
        let text = r#"
            colour = 1
            [[callers]]
            name = "Bad Name"
            tokens = ["rgs_secret"]
            scopes = []
            [[callers]]
            name = "a"
            token = ["x"]
            scopes = ["reed"]
            case_prefixes = ["-"]
            burst = 5
            daily_limit = 0
            max_waiting = "many"
            [[callers]]
            name = "b"
            tokens = ["sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]
            certificates = ["aaa.internal"]
            subjects = ["service-a"]
            scopes = ["read"]
            rate = 10000000
            [[callers]]
            name = "b"
            tokens = ["sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]
            scopes = ["read"]
        "#;
        let error = parse(text).unwrap_err();
        for expected in [
            "unknown key `colour`",
            "caller 1 has a name that is not a caller's name",
            "caller 1 has entry 1 of `tokens` that is not the hash of a token",
            "caller 1 has `scopes` that is not a list",
            "caller 2 (a) has an unknown key `token`; did you mean `tokens`?",
            "caller 2 (a) cannot be identified",
            "caller 2 (a) has entry 1 of `scopes` that is not a scope",
            "caller 2 (a) has entry 1 of `case_prefixes` that must begin with a letter",
            "caller 2 (a) has `burst` without `rate`",
            "caller 2 (a) has `daily_limit` that is not a whole number above 0",
            "caller 2 (a) has `max_waiting` that is not a whole number",
            "caller 3 (b) has entry 1 of `certificates`",
            "caller 3 (b) has entry 1 of `subjects`",
            "caller 3 (b) has `rate` above",
            "caller 4 (b) has the name of an earlier caller",
            "caller 4 (b) has an entry in tokens that b has too",
        ] {
            assert!(error.faults().iter().any(|fault| fault.contains(expected)), "{expected}: {error:#?}");
        }
        assert_eq!(error.faults().len(), 16, "{error:#?}");
        assert!(!error.to_string().contains("rgs_secret"));
    }

    #[test]
    fn a_file_that_is_not_toml_is_refused_with_its_line_alone() {
        let error = parse("[[callers]]\nname = \"a\"\ntokens = [rgs_secret]\n").unwrap_err();
        assert!(error.to_string().contains("line 3") && !error.to_string().contains("rgs_secret"), "{error}");
        assert!(parse("").unwrap_err().to_string().contains("no callers"));
    }
}
