# Serves Debian's Redmine from a new database on a random loopback port. Once it
# listens, the file `ready` in the folder given holds its address and the API key
# of its administrator. .ci/redmine starts it and says where everything is.
folder = File.expand_path(ARGV.fetch(0))

require '/usr/share/redmine/config/environment'
require 'rack/handler/webrick'

Rails.application.load_tasks
Rake::Task['db:migrate'].invoke
# What was loaded before there were tables knows of no columns.
ActiveRecord::Base.descendants.each(&:reset_column_information)
Redmine::DefaultData::Loader.load('en')
# An issue may begin in any status.
Tracker.all.to_a.product(IssueStatus.all.to_a, Role.givable.to_a) do |tracker, status, role|
  WorkflowTransition.create!(tracker: tracker, old_status_id: 0, new_status: status, role: role)
end
Setting.rest_api_enabled = '1'
key = User.find_by!(login: 'admin').api_key

quiet = WEBrick::Log.new($stderr, WEBrick::Log::WARN)
Rack::Handler::WEBrick.run(Rails.application, Host: '127.0.0.1', Port: 0, Logger: quiet, AccessLog: []) do |server|
  File.write("#{folder}/ready.part", "http://127.0.0.1:#{server.listeners.first.addr[1]} #{key}\n")
  File.rename("#{folder}/ready.part", "#{folder}/ready")
end
