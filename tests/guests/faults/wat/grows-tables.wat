;; An adapter, `grows-tables`, that judges a receipt by growing its table without end. Rust cannot write it: it has no tables.
(module
  (table $table 1 funcref)
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 4096)
  (func (export "wharf:plugin/adapter@0.1.0#describe") (result i32)
    i32.const 1024)
  (func (export "wharf:plugin/adapter@0.1.0#validate")
    (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
    (loop $again
      (drop (table.grow $table (ref.null func) (i32.const 1000)))
      (br $again))
    unreachable)
  ;; The manifest: name, display name and version as pointer and length, then three empty lists.
  (data (i32.const 1024) "\00\08\00\00\0c\00\00\00\00\08\00\00\0c\00\00\00\10\08\00\00\05\00\00\00")
  (data (i32.const 2048) "grows-tables    0.1.0"))
