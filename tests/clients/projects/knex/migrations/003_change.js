exports.up = async (knex) => {
  await knex.schema.alterTable("users", (t) => {
    t.uuid("token").defaultTo(knex.raw("gen_random_uuid()"));
    t.string("name", 40);
    t.string("email", 400).notNullable().alter();
  });
  await knex("users").update({ name: knex.raw("split_part(email, '@', 1)") });
  await knex.schema.alterTable("users", (t) => { t.dropNullable("name"); t.renameColumn("name", "login"); });
  await knex.schema.alterTable("posts", (t) => { t.index(["state", "user_id"], "posts_state"); t.check("length(body) > 0", [], "posts_body"); });
  await knex.schema.renameTable("posts", "articles");
};
exports.down = async (knex) => {
  await knex.schema.renameTable("articles", "posts");
  await knex.schema.alterTable("posts", (t) => { t.dropIndex(["state", "user_id"], "posts_state"); t.dropChecks("posts_body"); });
  await knex.schema.alterTable("users", (t) => { t.dropColumns("token", "login"); t.string("email", 255).notNullable().alter(); });
};
