"""The Lua scripts, each of which the server runs as one atomic step."""

from __future__ import annotations

import hashlib

FOREIGN = -1
"""Another program's value has the name that the blob was to have."""
LOST = -2
"""Chunks that were written are gone."""


class Script:
    """A Lua script, and the digest by which the server knows it.

    >>> Script("return 1").digest
    b'e0e1f9fabfc9d4800c877a703b823ac0578ff8db'
    """

    def __init__(self, source: str) -> None:
        self.source = source.encode()
        self.digest = hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()


# A head's places are those of head.py, counted from 1. The index is a sorted set of all keys with the score
# 0, which the server keeps in the order of bytes; the second one scores the keys that expire by when they do.
# A key of the second one with a time in the past has expired, and leaves both.
_COMMON = """
local function head_of(name, last)
    local head = redis.pcall('GETRANGE', name, 0, last or 49)
    if type(head) == 'table' then
        if string.find(head.err, 'WRONGTYPE', 1, true) then
            return nil
        end
        error(head.err)
    end
    if head == '' or string.sub(head, 1, 4) == 'hdl1' then
        return head
    end
    -- A newer version of holdall has another digit.
    return nil, string.find(head, '^hdl%d') and head
end
local function length_of(head)
    local high, low = string.byte(head, 49, 50)
    return 50 + high * 256 + low
end
local function expires_of(head)
    return string.format('%.0f', struct.unpack('>I8', head, 29))
end
local NEVER = '\\0\\0\\0\\0\\0\\0\\0\\0'
local INLINE = '\\0\\0\\0\\0'
local function chunks_of(head, chunks)
    if head == '' or string.sub(head, 45, 48) == INLINE then
        return nil
    end
    -- Where a slot is on its way to another server, this fails before anything is changed. Asked for one
    -- name, the server that it goes to would take chunks that haven't come yet for absent, and keep them for
    -- ever; asked for two, it refuses.
    redis.call('EXISTS', KEYS[1], chunks .. string.sub(head, 5, 20))
    return chunks .. string.sub(head, 5, 20)
end
local function drop(chunks)
    if chunks then
        redis.pcall('UNLINK', chunks)
    end
end
local function conflict(head, expect)
    if expect == '' then
        return false
    elseif expect == '-' then
        return head ~= ''
    end
    return head == '' or string.sub(head, 5, 20) ~= string.sub(expect, 2)
end
local function sweep(index, expiring)
    local now = redis.call('TIME')
    local past = redis.call('ZRANGEBYSCORE', expiring, '-inf',
        string.format('(%.0f', now[1] * 1000 + math.floor(now[2] / 1000)), 'LIMIT', 0, 8)
    if #past > 0 then
        redis.call('ZREM', index, unpack(past))
        redis.call('ZREM', expiring, unpack(past))
    end
end
local function note(index, expiring, member, head, expires)
    redis.call('ZADD', index, 0, member)
    if expires ~= '0' then
        redis.call('ZADD', expiring, expires, member)
        sweep(index, expiring)
    elseif head == '' or string.sub(head, 29, 36) ~= NEVER then
        redis.call('ZREM', expiring, member)
    end
end
"""

# The server takes a moment for past once its clock is beyond it, holdall once it is reached: so 1 ms less.
# A script returns 1, or the ETag that was in the way ('' for none), or FOREIGN or LOST.

# A script that fails half-way stays half done. So what may be refused (by an ACL, or since another program's
# value has the name) comes first, in an order in which a rest does no harm: a key in the index without a blob
# is left out by listings, and leaves it. What is left to do once the blob is written or gone is tried only.

# These two are written out: they run for every put.

PUT = Script(
    """
-- KEYS: index, expiring, blob, and the chunks if there are any
-- ARGV: member, value, expect, expires, prefix of chunks, number of chunks
local call, sub = redis.call, string.sub
local member, value, expect, expires, name = ARGV[1], ARGV[2], ARGV[3], ARGV[4], KEYS[3]
local head = call('GETRANGE', name, 0, 49)
local etag = sub(head, 5, 20)
if head ~= '' then
    if sub(head, 1, 4) ~= 'hdl1' then
        return -1
    end
    if etag == sub(value, 5, 20) then
        -- The answer to the same request was lost on the way.
        return 1
    end
end
if expect == '-' then
    if head ~= '' then
        return etag
    end
elseif expect ~= '' and (head == '' or etag ~= sub(expect, 2)) then
    return etag
end
local chunks, old = KEYS[4], nil
if chunks and call('HLEN', chunks) ~= tonumber(ARGV[6]) then
    return -2
end
if head ~= '' and sub(head, 45, 48) ~= '\\0\\0\\0\\0' then
    old = ARGV[5] .. etag
    -- As in chunks_of.
    call('EXISTS', KEYS[1], old)
end
-- Also of a blob that was there: a server that evicts keys may have dropped the index.
call('ZADD', KEYS[1], 0, member)
if expires ~= '0' then
    call('ZADD', KEYS[2], expires, member)
    local now = call('TIME')
    local past = call('ZRANGEBYSCORE', KEYS[2], '-inf',
        string.format('(%.0f', now[1] * 1000 + math.floor(now[2] / 1000)), 'LIMIT', 0, 8)
    if #past > 0 then
        call('ZREM', KEYS[1], unpack(past))
        call('ZREM', KEYS[2], unpack(past))
    end
elseif head == '' or sub(head, 29, 36) ~= '\\0\\0\\0\\0\\0\\0\\0\\0' then
    call('ZREM', KEYS[2], member)
end
if expires == '0' then
    if chunks then
        call('PERSIST', chunks)
    end
    call('SET', name, value)
else
    local at = string.format('%.0f', tonumber(expires) - 1)
    if chunks then
        call('PEXPIREAT', chunks, at)
    end
    call('SET', name, value, 'PXAT', at)
end
if old then
    redis.pcall('UNLINK', old)
end
return 1
"""
)

PUT_MANY = Script(
    _COMMON
    + """
-- KEYS: index, expiring, blobs; ARGV: expires, or nothing where each value's head says its own; prefix of
-- chunks; then a member and a value for each
local call, sub, keys, argv = redis.call, string.sub, KEYS, ARGV
local expires, heads, old, count = argv[1], {}, {}, #keys
if call('EXISTS', unpack(keys, 3)) > 0 then
    for i = 3, count do
        local head = call('GETRANGE', keys[i], 0, 49)
        if head ~= '' then
            if sub(head, 1, 4) ~= 'hdl1' then
                return -1
            end
            heads[i] = head
            old[#old + 1] = chunks_of(head, argv[2])
        end
    end
end
local added, forever = {}, {}
for i = 3, count do
    local member, head = argv[2 * i - 3], heads[i]
    added[#added + 1] = 0
    added[#added + 1] = member
    if not head or sub(head, 29, 36) ~= NEVER then
        forever[#forever + 1] = member
    end
end
call('ZADD', keys[1], unpack(added))
if expires == '0' then
    if #forever > 0 and call('EXISTS', keys[2]) == 1 then
        call('ZREM', keys[2], unpack(forever))
    end
    for i = 3, count do
        call('SET', keys[i], argv[2 * i - 2])
    end
elseif expires == '' then
    local later, lasting = {}, {}
    for i = 3, count do
        local own = expires_of(argv[2 * i - 2])
        if own == '0' then
            lasting[#lasting + 1] = argv[2 * i - 3]
        else
            later[#later + 1] = own
            later[#later + 1] = argv[2 * i - 3]
        end
    end
    if #lasting > 0 then
        call('ZREM', keys[2], unpack(lasting))
    end
    if #later > 0 then
        call('ZADD', keys[2], unpack(later))
    end
    sweep(keys[1], keys[2])
    for i = 3, count do
        local value = argv[2 * i - 2]
        local own = expires_of(value)
        if own == '0' then
            call('SET', keys[i], value)
        else
            call('SET', keys[i], value, 'PXAT', string.format('%.0f', tonumber(own) - 1))
        end
    end
else
    for i = 2, #added, 2 do
        added[i - 1] = expires
    end
    call('ZADD', keys[2], unpack(added))
    sweep(keys[1], keys[2])
    local at = string.format('%.0f', tonumber(expires) - 1)
    for i = 3, count do
        call('SET', keys[i], argv[2 * i - 2], 'PXAT', at)
    end
end
for i = 1, #old do
    drop(old[i])
end
return 1
"""
)

DELETE = Script(
    _COMMON
    + """
-- KEYS: index, expiring, blobs; ARGV: expect, prefix of chunks, then a member for each
local count = 0
for i = 3, #KEYS do
    local member = ARGV[i]
    local head, newer = head_of(KEYS[i])
    if not head then
        head = ''
    elseif conflict(head, ARGV[1]) then
        return string.sub(head, 5, 20)
    elseif head ~= '' then
        local chunks = chunks_of(head, ARGV[2])
        redis.call('UNLINK', KEYS[i])
        drop(chunks)
        count = count + 1
    end
    if not newer then
        redis.pcall('ZREM', KEYS[1], member)
    end
    if head == '' and not newer or string.sub(head, 29, 36) ~= NEVER then
        redis.pcall('ZREM', KEYS[2], member)
    end
end
return count
"""
)

TOUCH = Script(
    _COMMON
    + """
-- KEYS: index, expiring, blob
-- ARGV: member, modified (8 bytes), expires or '', expires (8 bytes), prefix of chunks
-- Returns the new head; or false.
local name, at = KEYS[3], ARGV[3]
local head = head_of(name)
if not head or head == '' then
    return false
end
local chunks = chunks_of(head, ARGV[5])
redis.call('SETRANGE', name, 20, ARGV[2])
if at ~= '' then
    note(KEYS[1], KEYS[2], ARGV[1], head, at)
    at = string.format('%.0f', tonumber(at) - 1)
    if chunks then
        redis.call('PEXPIREAT', chunks, at)
    end
    redis.call('PEXPIREAT', name, at)
    redis.call('SETRANGE', name, 28, ARGV[4])
end
return redis.call('GETRANGE', name, 0, length_of(head) - 1)
"""
)

HEADS = Script(
    _COMMON
    + """
-- KEYS: index, expiring, blobs; ARGV: the last byte wanted, then a member for each
-- Returns each head; '' where no blob is; '?' and its type for another program's value.
local heads = {}
for i = 3, #KEYS do
    local head, newer = head_of(KEYS[i], ARGV[1])
    if not head then
        head = newer or '?' .. (redis.pcall('TYPE', KEYS[i]).ok or 'value')
    elseif head == '' then
        -- A replica, or a user who may only read, leaves them there.
        redis.pcall('ZREM', KEYS[1], ARGV[i - 1])
        redis.pcall('ZREM', KEYS[2], ARGV[i - 1])
    end
    heads[#heads + 1] = head
end
return heads
"""
)

RANGE = Script(
    _COMMON
    + """
-- KEYS: blob; ARGV: start, stop or ''. Returns the head and what the range holds, if it is inline.
local head, newer = head_of(KEYS[1])
if newer then
    return {newer, ''}
end
if not head or head == '' then
    return false
end
local size, finish = struct.unpack('>I8', head, 37), length_of(head)
if finish > 50 then
    head = redis.call('GETRANGE', KEYS[1], 0, finish - 1)
end
if string.sub(head, 45, 48) ~= INLINE then
    return {head, ''}
end
local start, stop = tonumber(ARGV[1]), tonumber(ARGV[2]) or size
if start < 0 then
    start = math.max(start + size, 0)
end
if stop < 0 then
    stop = stop + size
end
stop = math.min(stop, size)
if stop <= start then
    return {head, ''}
end
return {head, redis.call('GETRANGE', KEYS[1], string.format('%.0f', finish + start),
    string.format('%.0f', finish + stop - 1))}
"""
)

CHUNK = Script(
    """
-- KEYS: chunks; ARGV: number, bytes, milliseconds until they go unless they are published
-- The same request may come again, and late: what is published by then must not go.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
"""
)

PART = Script(
    """
-- KEYS: chunks; ARGV: number, first byte and last, counted from 1
local chunk = redis.call('HGET', KEYS[1], ARGV[1])
return chunk and string.sub(chunk, tonumber(ARGV[2]), tonumber(ARGV[3]))
"""
)

COPY_CHUNK = Script(
    """
-- KEYS: chunks of the source, chunks of the target; ARGV: number, milliseconds as in CHUNK
local chunk = redis.call('HGET', KEYS[1], ARGV[1])
if not chunk then
    return 0
end
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then
    redis.call('HSET', KEYS[2], ARGV[1], chunk)
    redis.call('PEXPIRE', KEYS[2], ARGV[2])
end
return 1
"""
)

_BETWEEN = (
    _COMMON
    + """
-- KEYS: source, target, index, expiring
local source, target = head_of(KEYS[1]), head_of(KEYS[2])
if not target then
    return -1
end
if not source or source == '' then
    return false
end
"""
)

COPY = Script(
    _BETWEEN
    + """
-- ARGV: member, expect, ETag, modified (8 bytes), prefix of chunks
-- Returns the new head; or the source's, if its bytes are in chunks; or false; or {the ETag in the way}.
local last = length_of(source) - 1
if string.sub(source, 45, 48) ~= INLINE then
    return redis.call('GETRANGE', KEYS[1], 0, last)
end
if target ~= '' and string.sub(target, 5, 20) == ARGV[3] then
    return redis.call('GETRANGE', KEYS[2], 0, last)
end
if conflict(target, ARGV[2]) then
    return {string.sub(target, 5, 20)}
end
local value = redis.call('GET', KEYS[1])
value = 'hdl1' .. ARGV[3] .. ARGV[4] .. string.sub(value, 29)
local chunks, expires = chunks_of(target, ARGV[5]), expires_of(source)
note(KEYS[3], KEYS[4], ARGV[1], target, expires)
if expires == '0' then
    redis.call('SET', KEYS[2], value)
else
    redis.call('SET', KEYS[2], value, 'PXAT', string.format('%.0f', tonumber(expires) - 1))
end
drop(chunks)
return string.sub(value, 1, last + 1)
"""
)

MOVE = Script(
    _BETWEEN
    + """
-- ARGV: member of the source, of the target, expect, prefix of chunks
-- Returns the head, which moves as it is; or false; or {the ETag in the way}.
if conflict(target, ARGV[3]) then
    return {string.sub(target, 5, 20)}
end
local chunks = chunks_of(target, ARGV[4])
note(KEYS[3], KEYS[4], ARGV[2], target, expires_of(source))
redis.call('RENAME', KEYS[1], KEYS[2])
redis.pcall('ZREM', KEYS[3], ARGV[1])
redis.pcall('ZREM', KEYS[4], ARGV[1])
drop(chunks)
return redis.call('GETRANGE', KEYS[2], 0, length_of(source) - 1)
"""
)

REINDEX = Script(
    _COMMON
    + """
-- KEYS: index, expiring, blobs; ARGV: a member for each. Returns how many the index lacked.
local added = 0
for i = 3, #KEYS do
    local head, member = head_of(KEYS[i]), ARGV[i - 2]
    if head and head ~= '' then
        added = added + redis.call('ZADD', KEYS[1], 0, member)
        local expires = expires_of(head)
        if expires ~= '0' then
            redis.call('ZADD', KEYS[2], expires, member)
        end
    end
end
return added
"""
)

SEAL = Script(
    """
-- KEYS: index; ARGV: the member that a search began with, the seal. Returns 0 if the index was lost since.
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then
    return 0
end
redis.call('ZADD', KEYS[1], 0, ARGV[2])
return 1
"""
)

UNSEAL = Script(
    """
-- KEYS: index; ARGV: the seal
local first = redis.call('ZRANGEBYLEX', KEYS[1], '-', '+', 'LIMIT', 0, 2)
if #first == 1 and first[1] == ARGV[1] then
    redis.call('UNLINK', KEYS[1])
end
return 1
"""
)
