;; An adapter that traps when an instance is made, before any call.
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    unreachable)
  (func (export "wharf:plugin/adapter@0.1.0#describe") (result i32)
    unreachable)
  (func (export "wharf:plugin/adapter@0.1.0#validate")
    (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
    unreachable)
  (func $start
    unreachable)
  (start $start))
