;; An adapter, `many-memories`, of three memories, which judges a receipt by growing each in turn below the limit of one.
;; Rust cannot write it: it has one memory.
(module
  (memory $first (export "memory") 1)
  (memory $second 1)
  (memory $third 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 4096)
  (func (export "wharf:plugin/adapter@0.1.0#describe") (result i32)
    i32.const 1024)
  (func (export "wharf:plugin/adapter@0.1.0#validate")
    (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
    (loop $again
      (if (i32.lt_s (memory.grow $first (i32.const 16)) (i32.const 0)) (then unreachable))
      (if (i32.lt_s (memory.grow $second (i32.const 16)) (i32.const 0)) (then unreachable))
      (if (i32.lt_s (memory.grow $third (i32.const 16)) (i32.const 0)) (then unreachable))
      (br $again))
    unreachable)
  ;; The manifest: name, display name and version as pointer and length, then three empty lists.
  (data (i32.const 1024) "\00\08\00\00\0d\00\00\00\00\08\00\00\0d\00\00\00\10\08\00\00\05\00\00\00")
  (data (i32.const 2048) "many-memories   0.1.0"))
