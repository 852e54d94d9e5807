//! Telling the host's own troubles from the receiver's.

use std::{error::Error, io, net::UdpSocket};

use rustix::io::Errno;
use wharf_domain::NotSent;
use wharf_store::deliveries::Claimed;

/// Times that a delivery is given back for want of a local address. Ports come free within minutes; a host without an
/// address of the receiver's family (IPv6, mostly) never gets one, and then it is for the receiver to change.
const MAX_NO_ADDRESS: i64 = 10;

/// The host's own trouble that made a request fail, if it was one.
pub(super) fn host_fault(error: &wharf_egress::Error, given_back: i64) -> Option<NotSent> {
    let fault = among_causes(error).or_else(|| {
        // A resolver without descriptors says "temporary failure in name resolution", as it says of a broken zone.
        error.is_connect().then(try_a_socket).flatten()
    });
    fault.filter(|fault| is_ours(*fault, given_back))
}

/// The times that a delivery was claimed without an attempt, this time apart: every claim raises the fence, and every
/// attempt its number.
pub(super) const fn given_back(claimed: &Claimed) -> i64 {
    claimed.fence.number - claimed.attempts_before - 1
}

fn is_ours(fault: NotSent, given_back: i64) -> bool {
    fault != NotSent::NoAddress || given_back < MAX_NO_ADDRESS
}

fn among_causes(error: &(dyn Error + 'static)) -> Option<NotSent> {
    std::iter::successors(Some(error), |&error| error.source())
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .find_map(of_io)
}

fn of_io(error: &io::Error) -> Option<NotSent> {
    match Errno::from_io_error(error)? {
        // The process's own limit, and the machine's.
        Errno::MFILE | Errno::NFILE => Some(NotSent::NoDescriptors),
        Errno::NOMEM | Errno::NOBUFS => Some(NotSent::NoMemory),
        // Every local port towards this receiver is taken, or there is no address of its family.
        Errno::ADDRNOTAVAIL => Some(NotSent::NoAddress),
        // All else, such as a refused connection, tells of the receiver and counts against it.
        _ => None,
    }
}

/// The trouble that keeps this process from opening a socket just now. Binding a UDP socket sends nothing to anybody.
fn try_a_socket() -> Option<NotSent> {
    UdpSocket::bind(("127.0.0.1", 0))
        .err()
        .as_ref()
        .and_then(of_io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("connecting failed")]
    struct Outer(#[source] io::Error);

    #[test]
    fn our_own_troubles_are_told_from_the_receivers() {
        let told = |errno: Errno| among_causes(&Outer(errno.into()));
        assert_eq!(told(Errno::MFILE), Some(NotSent::NoDescriptors));
        assert_eq!(told(Errno::NFILE), Some(NotSent::NoDescriptors));
        assert_eq!(told(Errno::NOBUFS), Some(NotSent::NoMemory));
        assert_eq!(told(Errno::ADDRNOTAVAIL), Some(NotSent::NoAddress));
        for theirs in [
            Errno::CONNREFUSED,
            Errno::CONNRESET,
            Errno::TIMEDOUT,
            Errno::NETUNREACH,
        ] {
            assert_eq!(told(theirs), None, "{theirs}");
        }
        assert!(is_ours(NotSent::NoAddress, MAX_NO_ADDRESS - 1));
        assert!(!is_ours(NotSent::NoAddress, MAX_NO_ADDRESS), "not for ever");
        assert!(is_ours(NotSent::NoDescriptors, MAX_NO_ADDRESS));
        assert_eq!(among_causes(&Outer(io::Error::other("no errno"))), None);
        assert_eq!(try_a_socket(), None, "a test has descriptors");
    }
}
