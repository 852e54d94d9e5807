;; An adapter, `recurses`, that judges a receipt by calling itself without end. A guest in Rust meets the end of its own
;; stack in memory first; this one has none.
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 4096)
  (func (export "wharf:plugin/adapter@0.1.0#describe") (result i32)
    i32.const 1024)
  (func $deeper (param i32) (result i32)
    (i32.add (local.get 0) (call $deeper (i32.add (local.get 0) (i32.const 1)))))
  (func (export "wharf:plugin/adapter@0.1.0#validate")
    (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
    (call $deeper (i32.const 0)))
  ;; The manifest: name, display name and version as pointer and length, then three empty lists.
  (data (i32.const 1024) "\00\08\00\00\08\00\00\00\00\08\00\00\08\00\00\00\10\08\00\00\05\00\00\00")
  (data (i32.const 2048) "recurses        0.1.0"))
