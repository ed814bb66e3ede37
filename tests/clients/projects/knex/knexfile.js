// One database, that of DATABASE_URL.
module.exports = { client: "pg", connection: process.env.DATABASE_URL, pool: { min: 1, max: 4 } };
