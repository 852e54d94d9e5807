;; An adapter of more memories than a component may have. Rust cannot write it: it has one memory.
(module
  (memory (export "memory") 1)
  (memory 1)
  (memory 1)
  (memory 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    unreachable)
  (func (export "wharf:plugin/adapter@0.1.0#describe") (result i32)
    unreachable)
  (func (export "wharf:plugin/adapter@0.1.0#validate")
    (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
    unreachable))
