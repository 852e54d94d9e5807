//! Against web pages: a browser is on the same machine or in the same network as this host, and sends what any page tells
//! it to.
//!
//! - *DNS rebinding*: a page's own name is made to lead to this host, so that the page may read its answers. The name stays
//!   in `Host`, which must therefore be one of ours.
//! - *Cross-site requests*: a page of another origin sends what it may not read the answer of. Browsers say so in `Origin`
//!   and `Sec-Fetch-Site`, which no page can set; what changes something is refused then.
//!
//! Other programs send neither of these two headers, and nothing changes for them. No answer carries a header of CORS, so
//! that no page of another origin reads any, and every request that is more than a form's ends with its preflight.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, Method, Request, header};

use crate::error::ApiError;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The hosts that requests to an address may name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedHosts {
    told: Vec<AllowedHost>,
    is_loopback: bool,
}

impl AllowedHosts {
    /// Those that the operator `told`, and the names and addresses of loopback where that is what is listened at: no name
    /// of a stranger is among them. Without either any host may be named.
    pub fn new(told: Vec<AllowedHost>, is_loopback: bool) -> Self {
        Self { told, is_loopback }
    }

    /// Refuses a request that names a host of somebody else.
    pub(crate) fn check<B>(&self, request: &Request<B>) -> Result<(), ApiError> {
        let is_open = !self.is_loopback && self.told.is_empty();
        // Supervisors ask by the address of a container, which nobody knows beforehand; and a page that reads this
        // learns nothing. On loopback there is no such supervisor.
        let is_probe = !self.is_loopback && crate::is_probe(request.uri().path());
        // A request that names none is no browser's.
        if is_open || is_probe || named(request).all(|host| self.allows(host)) {
            Ok(())
        } else {
            Err(ApiError::ForeignHost)
        }
    }

    fn allows(&self, host: &str) -> bool {
        let Some((name, port)) = split(host) else {
            return false;
        };
        self.told.iter().any(|told| told.is(name, port)) || self.is_loopback && is_loopback(name)
    }
}

/// A name or address, perhaps with a port, that requests may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHost {
    name: String,
    port: Option<u16>,
}

impl AllowedHost {
    /// Reads `wharf.example.com`, `192.0.2.1:8080`, `[2001:db8::1]` and the like; without a port any will do. `None` if it
    /// is none.
    pub fn parse(text: &str) -> Option<Self> {
        // People leave the brackets out where there is no port.
        let bare = text.parse::<IpAddr>().ok().filter(IpAddr::is_ipv6);
        let bracketed = bare.map(|address| format!("[{address}]"));
        let (name, port) = split(bracketed.as_deref().unwrap_or(text))?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if name.is_empty() || !(name.bytes().all(is_name) || address(name).is_some()) {
            return None;
        }
        Some(Self {
            name: name.to_owned(),
            port,
        })
    }

    fn is(&self, name: &str, port: Option<u16>) -> bool {
        let is_same = match (address(&self.name), address(name)) {
            // One address has several spellings.
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => self.name.eq_ignore_ascii_case(name),
        };
        is_same && (self.port.is_none() || self.port == port)
    }
}

/// Refuses what a page of another origin sends, unless nothing can change by it.
pub(crate) fn refuse_foreign<B>(request: &Request<B>) -> Result<(), ApiError> {
    // RFC 9110, 9.2.1. Nothing is changed by a `GET` here, and no page of another origin reads the answer.
    if [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method()) {
        return Ok(());
    }
    let own = named(request).next();
    let is_own = |origin: &str| own.is_some_and(|host| is_origin_of(origin, host));
    let is_fine = all(request.headers(), &header::ORIGIN, is_own)
        // Another port of the same machine is another's: `same-site` is not enough. `none` is the user's own doing.
        && all(request.headers(), &SEC_FETCH_SITE, |site| ["same-origin", "none"].contains(&site));
    if is_fine {
        Ok(())
    } else {
        Err(ApiError::ForeignOrigin)
    }
}

/// The hosts that a request names: of its target (HTTP/2, and HTTP/1.1 as to a proxy), and by its header.
fn named<B>(request: &Request<B>) -> impl Iterator<Item = &str> {
    let target = request
        .uri()
        .authority()
        .map(|authority| authority.as_str());
    let header = request.headers().get(header::HOST);
    // The front door has let in visible ASCII alone. What is not is nobody's name.
    let header = header.map(|host| host.to_str().unwrap_or_default());
    // An empty one names none, as none at all does. Browsers always name one.
    target
        .into_iter()
        .chain(header)
        .filter(|host| !host.is_empty())
}

fn all(headers: &HeaderMap, name: &HeaderName, is_fine: impl Fn(&str) -> bool) -> bool {
    let mut values = headers.get_all(name).iter();
    values.all(|value| value.to_str().is_ok_and(&is_fine))
}

/// Splits a host from its port. The brackets of an address of IPv6 stay.
fn split(host: &str) -> Option<(&str, Option<u16>)> {
    let after_address = host.rfind(']').map_or(0, |at| at + 1);
    let (name, port) = match host[after_address..].find(':') {
        None => (host, None),
        Some(at) => {
            let (name, port) = host.split_at(after_address + at);
            (name, Some(&port[1..]))
        }
    };
    // The root's dot names the same host.
    let name = name.strip_suffix('.').unwrap_or(name);
    match port {
        None | Some("") => Some((name, None)),
        Some(port) => Some((name, Some(port.parse().ok()?))),
    }
}

fn address(name: &str) -> Option<IpAddr> {
    let bracketed = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address: IpAddr = bracketed.unwrap_or(name).parse().ok()?;
    (address.is_ipv6() == bracketed.is_some()).then(|| address.to_canonical())
}

/// The names that lead to this machine wherever they are looked up (RFC 6761, 6.3), and its addresses: nobody else can
/// have any of them.
fn is_loopback(name: &str) -> bool {
    const LOCALHOST: &str = "localhost";
    if let Some(address) = address(name) {
        return address.is_loopback();
    }
    let Some(at) = name.len().checked_sub(LOCALHOST.len()) else {
        return false;
    };
    // By bytes: nothing keeps a boundary between characters there.
    let (below, last) = name.as_bytes().split_at(at);
    last.eq_ignore_ascii_case(LOCALHOST.as_bytes()) && (below.is_empty() || below.ends_with(b"."))
}

/// Returns true if this is the origin of pages of the host: the same name, and the same port where both have the scheme's.
fn is_origin_of(origin: &str, host: &str) -> bool {
    // `null` is the origin of what may come from anywhere.
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    // Before this host there may be one that speaks TLS: the scheme is the page's, and which one says nothing.
    let default = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return false,
    };
    match (split(authority), split(host)) {
        (Some((theirs, their_port)), Some((ours, our_port))) => {
            theirs.eq_ignore_ascii_case(ours)
                && their_port.unwrap_or(default) == our_port.unwrap_or(default)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
