//! A compile bomb: a small component that compiles for minutes.

/// Local variables of its function, all set at the top and used at the bottom ...
const LOCALS: usize = 4_000;
/// ... and loops between the two. The compiler's work and memory are their product.
const LOOPS: usize = 4_000;

/// Makes a component of some 45 KB that is valid, looks like an adapter, and compiles for more than a minute. Nothing in
/// it is large, deep or many enough to be refused by its form.
pub fn compile_bomb() -> Vec<u8> {
    let module = module();
    let name = b"wharf:plugin/adapter@0.1.0";
    let export = [&[1, 1][..], &sized(name), &[5, 0, 0]].concat();
    [
        b"\0asm\x0d\0\x01\0".to_vec(),
        section(1, &module),
        // An instance of no exports, and its export under the contract's name.
        section(5, &[1, 1, 0]),
        section(11, &export),
    ]
    .concat()
}

fn module() -> Vec<u8> {
    let export = [&[1][..], &sized(b"f0"), &[0, 0]].concat();
    [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 0, 0]),
        section(3, &[1, 0]),
        section(7, &export),
        section(10, &[&[1][..], &function()].concat()),
    ]
    .concat()
}

fn function() -> Vec<u8> {
    let mut body = [&[1][..], &leb(LOCALS), &[0x7f]].concat();
    for local in 0..LOCALS {
        // i32.const 1, local.set
        body.extend([&[0x41, 1, 0x21][..], &leb(local)].concat());
    }
    for _ in 0..LOOPS {
        // loop, i32.const 0, br_if 0, end
        body.extend([0x03, 0x40, 0x41, 0, 0x0d, 0, 0x0b]);
    }
    for local in 0..LOCALS {
        // local.get, drop
        body.extend([&[0x20][..], &leb(local), &[0x1a]].concat());
    }
    body.push(0x0b);
    sized(&body)
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &sized(content)].concat()
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&leb(bytes.len()), bytes].concat()
}

/// A number in WebAssembly's variable length.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(u8::try_from(number & 0x7f).expect("seven bits") | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).expect("seven bits"));
    bytes
}
