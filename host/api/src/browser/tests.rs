//! Which hosts and origins are allowed.

use super::*;

fn told(list: &[&str]) -> Vec<AllowedHost> {
    let all = list.iter().map(|text| AllowedHost::parse(text));
    all.collect::<Option<_>>().expect("hosts")
}

#[test]
fn loopback_has_names_that_nobody_else_can_have() {
    let loopback = AllowedHosts::new(Vec::new(), true);
    for good in [
        "localhost",
        "LocalHost:3000",
        "localhost.",
        "a.localhost:1",
        "127.0.0.1",
        "127.1.2.3:80",
        "[::1]",
        "[::1]:3000",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
    ] {
        assert!(loopback.allows(good), "{good}");
    }
    for bad in [
        "",
        "evil.test",
        "evil.test:3000",
        "localhost.evil.test",
        "notlocalhost",
        "127.0.0.1.evil.test",
        "0.0.0.0",
        "192.0.2.1",
        "[::2]",
        "::1",
        "[127.0.0.1]",
        "localhost:port",
        "localhost:1:2",
        "127.1",
        "u@localhost",
        "%6cocalhost",
    ] {
        assert!(!loopback.allows(bad), "{bad}");
    }
}

#[test]
fn what_was_told_is_allowed_by_any_spelling() {
    let hosts = AllowedHosts::new(
        told(&[
            "wharf.example.com",
            "192.0.2.1:8080",
            "2001:db8::1",
            "[::2]:1",
        ]),
        false,
    );
    for good in [
        "wharf.example.com",
        "WHARF.example.com.:1",
        "192.0.2.1:8080",
        "[2001:db8:0::1]:5",
        "[::2]:1",
    ] {
        assert!(hosts.allows(good), "{good}");
    }
    for bad in [
        "localhost",
        "192.0.2.1",
        "192.0.2.1:80",
        "[::2]",
        "a.wharf.example.com",
    ] {
        assert!(!hosts.allows(bad), "{bad}");
    }
    for bad in [
        "", "a b", "http://a", "a/b", "a:port", "[x]", "a,b", ":1", "*",
    ] {
        assert_eq!(AllowedHost::parse(bad), None, "{bad}");
    }
}

#[test]
fn a_request_names_its_host_in_its_target_too() {
    let check = |hosts: &AllowedHosts, uri: &str, host: Option<&str>| {
        let request = Request::get(uri);
        let request = match host {
            Some(host) => request.header(header::HOST, host),
            None => request,
        };
        hosts.check(&request.body(()).expect("a request")).is_ok()
    };
    let loopback = AllowedHosts::new(Vec::new(), true);
    assert!(check(&loopback, "/", None) && check(&loopback, "http://localhost/", None));
    assert!(!check(&loopback, "http://evil.test/", Some("localhost")));
    assert!(!check(&loopback, "http://localhost/", Some("evil.test")));
    assert!(!check(&loopback, "http://localhost@evil.test/", None));
    assert!(!check(&loopback, "/healthz", Some("evil.test")));
    let open = AllowedHosts::new(Vec::new(), false);
    assert!(check(&open, "/", Some("evil.test")));
    let one = AllowedHosts::new(told(&["a"]), false);
    assert!(check(&one, "/", Some("a")) && !check(&one, "/", Some("10.0.0.1")));
    assert!(check(&one, "/readyz", Some("10.0.0.1")), "a supervisor's");
}

#[test]
fn only_pages_of_this_host_change_something() {
    let check = |method: Method, headers: &[(HeaderName, &str)]| {
        let request = Request::builder()
            .method(method)
            .header(header::HOST, "localhost:3000");
        let request = headers
            .iter()
            .fold(request, |all, (name, value)| all.header(name, *value));
        refuse_foreign(&request.body(()).expect("a request")).is_ok()
    };
    let posted = |headers: &[(HeaderName, &str)]| check(Method::POST, headers);
    assert!(posted(&[]), "no browser");
    let own = (header::ORIGIN, "http://localhost:3000");
    assert!(
        posted(std::slice::from_ref(&own))
            && posted(&[own.clone(), (SEC_FETCH_SITE, "same-origin")])
    );
    for foreign in [
        "null",
        "",
        "http://evil.test",
        "http://localhost",
        "http://localhost:4000",
        "https://localhost",
        "http://localhost:3000.evil.test",
        "localhost:3000",
        "file://localhost:3000",
    ] {
        assert!(!posted(&[(header::ORIGIN, foreign)]), "{foreign}");
        assert!(
            !posted(&[own.clone(), (header::ORIGIN, foreign)]),
            "{foreign}"
        );
        assert!(
            check(Method::GET, &[(header::ORIGIN, foreign)]),
            "{foreign}"
        );
    }
    for site in ["cross-site", "same-site", "x"] {
        assert!(!posted(&[(SEC_FETCH_SITE, site)]), "{site}");
        assert!(!check(Method::DELETE, &[(SEC_FETCH_SITE, site)]), "{site}");
    }
    assert!(posted(&[(SEC_FETCH_SITE, "none")]));
}

#[test]
fn a_scheme_s_port_may_be_left_out() {
    for (origin, host, is_own) in [
        ("https://a", "a", true),
        ("http://A", "a:80", true),
        ("https://a", "a:443", true),
        ("https://a", "a:80", false),
        ("http://[::1]:3000", "[::1]:3000", true),
        ("http://a:3000", "a", false),
    ] {
        assert_eq!(is_origin_of(origin, host), is_own, "{origin} {host}");
    }
}
