//! Gives back the body that it gets: the least an HTTP handler can do.

use wasip2::{
    exports::http::incoming_handler::Guest,
    http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam},
    io::streams::StreamError,
};

struct Echo;

impl Guest for Echo {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let body = request.consume().expect("a body");
        let input = body.stream().expect("a stream");
        let mut bytes = Vec::new();
        loop {
            match input.blocking_read(64 << 10) {
                Ok(piece) => bytes.extend(piece),
                Err(StreamError::Closed) => break,
                Err(error) => panic!("{error:?}"),
            }
        }
        drop(input);
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("a body");
        ResponseOutparam::set(out, Ok(response));
        let output = body.write().expect("a stream");
        output.blocking_write_and_flush(&bytes).expect("room");
        drop(output);
        OutgoingBody::finish(body, None).expect("all of it");
    }
}

wasip2::http::proxy::export!(Echo);
