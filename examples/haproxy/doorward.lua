-- The action `lua.doorward URL` asks Doorward about a request. If it is allowed, the action sets txn.doorward to
-- "allowed", sets the identity headers, and sets or removes Authorization as the answer says. If it is denied, the action
-- answers as Doorward did. If anything fails, the variable stays unset, which haproxy.cfg must turn into a denial.

local timeout = 3000

local identity = { "x-auth-user", "x-auth-roles", "x-auth-admin" }
local told = { "allow", "cache-control", "content-type", "retry-after", "www-authenticate" }

-- Values of a header in their order, which HAProxy counts from 0; nothing if there is none.
local function values(headers, name)
    local list = headers[name]
    if not list then
        return nil
    end
    return { list[0], table.unpack(list) }
end

local function ask(txn, url)
    local sent = txn.http:req_get_headers()
    -- Sends duplicate headers as duplicates, so that Doorward can refuse them.
    return core.httpclient():get({
        url = url,
        timeout = timeout,
        headers = {
            ["authorization"] = values(sent, "authorization"),
            ["x-request-id"] = values(sent, "x-request-id"),
            ["x-doorward-probe"] = values(sent, "x-doorward-probe"),
            ["x-forwarded-for"] = { txn.sf:src() },
            ["x-forwarded-host"] = values(sent, "host"),
            ["x-forwarded-method"] = { txn.sf:method() },
            ["x-forwarded-proto"] = { txn.sf:ssl_fc() == "1" and "https" or "http" },
            ["x-forwarded-uri"] = { txn.sf:pathq() },
        },
    })
end

core.register_action("doorward", { "http-req" }, function(txn, url)
    local answer = ask(txn, url)
    local headers = answer.headers or {}
    if answer.status == 200 then
        for _, name in ipairs(identity) do
            local value = values(headers, name)
            if not value or #value ~= 1 then
                core.Warning("doorward: " .. name .. " is missing in a pass")
                return
            end
            txn.http:req_set_header(name, value[1])
        end
        local authorization = values(headers, "authorization")
        txn.http:req_del_header("authorization")
        if authorization and #authorization == 1 then
            txn.http:req_set_header("authorization", authorization[1])
        end
        txn:set_var("txn.doorward", "allowed")
        return
    end
    if not answer.status or answer.status < 400 or answer.status > 599 then
        return
    end
    local reply = txn:reply({ status = answer.status, body = answer.body or "" })
    for _, name in ipairs(told) do
        for _, value in ipairs(values(headers, name) or {}) do
            reply:add_header(name, value)
        end
    end
    txn:done(reply)
end, 1)
