use std::io::Write;

use wasip2::{
    http::{
        outgoing_handler,
        types::{
            ErrorCode, Fields, IncomingBody, IncomingResponse, Method as WasiMethod, OutgoingBody,
            OutgoingRequest, RequestOptions, Scheme,
        },
    },
    io::streams::StreamError,
};

use super::{Error, Method, Request, Response, split};

pub(super) fn send(request: &Request) -> Result<Response, Error> {
    let outgoing = head(request)?;
    let body = outgoing
        .body()
        .map_err(|()| Error::Failed("a request has one body".into()))?;
    let answer = outgoing_handler::handle(outgoing, Some(options(request)?)).map_err(error)?;
    if write(&body, &request.body) {
        OutgoingBody::finish(body, None).map_err(error)?;
    }
    answer.subscribe().block();
    match answer.get() {
        Some(Ok(Ok(response))) => read(&response),
        Some(Ok(Err(code))) => Err(error(code)),
        _ => Err(Error::Failed("the host gave no answer".into())),
    }
}

fn head(request: &Request) -> Result<OutgoingRequest, Error> {
    let headers: Vec<_> = request
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.clone().into_bytes()))
        .collect();
    let fields = Fields::from_list(&headers).map_err(|why| Error::Invalid(why.to_string()))?;
    let (scheme, authority, path) = split(&request.url)?;
    let outgoing = OutgoingRequest::new(fields);
    let method = match request.method {
        Method::Get => WasiMethod::Get,
        Method::Post => WasiMethod::Post,
    };
    let scheme = if scheme == "https" {
        Scheme::Https
    } else {
        Scheme::Http
    };
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    outgoing
        .set_method(&method)
        .and_then(|()| outgoing.set_scheme(Some(&scheme)))
        .and_then(|()| outgoing.set_authority(Some(authority)))
        .and_then(|()| outgoing.set_path_with_query(Some(&path)))
        .map_err(|()| Error::Invalid(format!("{:?} is no valid URL", request.url)))?;
    Ok(outgoing)
}

fn options(request: &Request) -> Result<RequestOptions, Error> {
    let most = u64::try_from(request.timeout.as_nanos()).ok();
    let options = RequestOptions::new();
    options
        .set_connect_timeout(most)
        .and_then(|()| options.set_first_byte_timeout(most))
        .and_then(|()| options.set_between_bytes_timeout(most))
        .map_err(|()| Error::Invalid("the host knows no timeouts".into()))?;
    Ok(options)
}

/// Writes the body and tells if it could. If not, the answer's error has the reason.
fn write(body: &OutgoingBody, bytes: &[u8]) -> bool {
    let Ok(mut stream) = body.write() else {
        return false;
    };
    stream
        .write_all(bytes)
        .and_then(|()| Write::flush(&mut stream))
        .is_ok()
}

fn read(response: &IncomingResponse) -> Result<Response, Error> {
    let headers = response.headers().entries();
    let headers = headers
        .into_iter()
        .filter_map(|(name, value)| Some((name, String::from_utf8(value).ok()?)))
        .collect();
    let body = response
        .consume()
        .map_err(|()| Error::Failed("the answer has no body".into()))?;
    Ok(Response {
        status: response.status(),
        headers,
        body: read_body(&body)?,
    })
}

fn read_body(body: &IncomingBody) -> Result<Vec<u8>, Error> {
    let stream = body
        .stream()
        .map_err(|()| Error::Failed("the answer has no body".into()))?;
    let mut bytes = Vec::new();
    // The host ends it where the granted limit is.
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(chunk) => bytes.extend(chunk),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(why)) => {
                let code = wasip2::http::types::http_error_code(&why);
                return Err(code.map_or_else(|| Error::Failed(why.to_debug_string()), error));
            }
        }
    }
}

fn error(code: ErrorCode) -> Error {
    match code {
        ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => Error::Denied,
        ErrorCode::DnsTimeout
        | ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => Error::TimedOut,
        ErrorCode::ConfigurationError => Error::NoCredential,
        ErrorCode::HttpRequestUriInvalid => Error::Invalid("the URL".into()),
        ErrorCode::HttpResponseBodySize(_) => Error::TooLarge,
        code => Error::Failed(format!("{code:?}")),
    }
}
