exports.config = { transaction: false };
exports.up = (knex) => knex.raw("CREATE INDEX CONCURRENTLY articles_words ON articles USING gin (words)");
exports.down = (knex) => knex.raw("DROP INDEX CONCURRENTLY articles_words");
